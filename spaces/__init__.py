"""What can be searched: parameters, spaces, restrictions, symmetry, counting, sampling; the graph as a value.

A space is a value. It has a parent and the restriction that led from it, so that a lineage is data:

    >>> from kdsearch.spaces import Restriction, space_from_spec
    >>> a = space_from_spec({"kind": "ktg", "target": "resnet32",
    ...                      "auxiliary": {"count": 2, "models": ["resnet32", "wrn28-2"]},
    ...                      "gates": ["through", "cutoff", "linear"]}, name="A")
    >>> b = a.restrict(Restriction("auxiliary models", ("wrn28-2", "wrn28-2")), name="B")
    >>> a.counts().encodings, a.counts().classes, b.counts().encodings, b.counts().classes
    (78732, 39609, 19683, 9963)

How the paper's own numbers (39,366 for A) come about stands in `kdsearch.spaces.ktg_counting`.
"""

from kdsearch.spaces.constraints import Comparison, Constraint, Forbidden
from kdsearch.spaces.describe import describe
from kdsearch.spaces.domains import Categorical, Domain, Float, Integer, LogUniform, Quantised
from kdsearch.spaces.errors import KdsearchError, SpaceError, UnknownNameError, UsageError
from kdsearch.spaces.files import dump_space, load_space, parse_yaml, save_space, space_from_spec, text_of
from kdsearch.spaces.graph import LABEL, TARGET, Edge, Gate, Graph
from kdsearch.spaces.ktg import KtgSpace
from kdsearch.spaces.papers import accv_space, refinement_spaces
from kdsearch.spaces.parameters import Parameter
from kdsearch.spaces.protocol import INACTIVE, ConditionGroup, Counts, DesignSpace, lineage
from kdsearch.spaces.restriction import Restriction
from kdsearch.spaces.space import Space
from kdsearch.spaces.values import Configuration, Value, configuration_key, label_of

__all__ = [
    "INACTIVE",
    "LABEL",
    "TARGET",
    "Categorical",
    "Comparison",
    "ConditionGroup",
    "Configuration",
    "Constraint",
    "Counts",
    "DesignSpace",
    "Domain",
    "Edge",
    "Float",
    "Forbidden",
    "Gate",
    "Graph",
    "Integer",
    "KdsearchError",
    "KtgSpace",
    "LogUniform",
    "Parameter",
    "Quantised",
    "Restriction",
    "Space",
    "SpaceError",
    "UnknownNameError",
    "UsageError",
    "Value",
    "accv_space",
    "configuration_key",
    "describe",
    "dump_space",
    "label_of",
    "lineage",
    "load_space",
    "parse_yaml",
    "refinement_spaces",
    "save_space",
    "space_from_spec",
    "text_of",
]
