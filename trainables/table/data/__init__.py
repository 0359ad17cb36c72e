"""Tables that come with kdsearch, and how each was made."""
