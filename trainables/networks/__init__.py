"""Networks: architectures as data, and many networks of one architecture as one program."""
