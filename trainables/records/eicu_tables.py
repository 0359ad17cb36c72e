"""Which columns and entries of the eICU tables are which of the 40 variables of PhysioNet 2019, and in which unit.

Sources: the eICU documentation of its tables (eicu-crd.mit.edu: `vitalPeriodic.sao2` is pulse oximetry, temperature is
in degrees Celsius), and the pivoted tables of MIT-LCP/eicu-code, from which most of the names and limits are. Units are
those of the 2019 files. What has no entry here is not used: total CO2 is no bicarbonate, ionised calcium no total
calcium, troponin T no troponin I, and paO2 is none of the 40. The laboratory's own temperatures and rates are entered
by hand and repeat the vital signs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.trainables.records.psv import VARIABLES

Numbers = NDArray[np.float64]
Convert = Callable[[Numbers], Numbers]
PATIENT_COLUMN: Final = "patientunitstayid"
_WARMEST_C: Final = 50.0
_SMALLEST_PER_CENT: Final = 20.0


def as_is(values: Numbers) -> Numbers:
    """Return values that are in the unit of the 2019 files."""
    return values


def celsius(values: Numbers) -> Numbers:
    """Return temperatures in degrees Celsius; what is above 50 is in degrees Fahrenheit."""
    return np.where(values > _WARMEST_C, (values - 32) / 1.8, values)


def fraction(values: Numbers) -> Numbers:
    """Return fractions; what is 20 or more is per cent (oxygen in breathed air is never below 0.2)."""
    return np.where(values >= _SMALLEST_PER_CENT, values / 100, values)


def excess(deficit: Numbers) -> Numbers:
    """Return base excess of base deficit; NaN for a negative deficit, whose sign is not certain."""
    return np.where(deficit >= 0, -deficit, np.nan)


@dataclass(frozen=True)
class Source:
    """A column or entry that holds a variable."""

    variable: str
    convert: Convert = as_is

    @property
    def at(self) -> int:
        """The place of the variable among the 40."""
        return VARIABLES.index(self.variable)


@dataclass(frozen=True, kw_only=True)
class WideTable:
    """A table with a column for each variable; `offset` is the column of minutes since admission to the unit."""

    offset: str
    columns: Mapping[str, Source]


@dataclass(frozen=True, kw_only=True)
class LongTable:
    """A table with a row for each value: `keys` are the columns that say what it is (compared in lower case)."""

    offset: str
    keys: tuple[str, ...]
    value: str
    entries: Mapping[tuple[str, ...], Source]


_LABORATORY: Final = {
    "base excess": Source("BaseExcess"),
    "base deficit": Source("BaseExcess", excess),
    "hco3": Source("HCO3"),  # of a blood gas
    "bicarbonate": Source("HCO3"),  # of serum
    "fio2": Source("FiO2", fraction),
    "ph": Source("pH"),
    "paco2": Source("PaCO2"),
    "o2 sat (%)": Source("SaO2"),  # of a blood gas
    "ast (sgot)": Source("AST"),
    "bun": Source("BUN"),
    "alkaline phos.": Source("Alkalinephos"),
    "calcium": Source("Calcium"),
    "chloride": Source("Chloride"),
    "creatinine": Source("Creatinine"),
    "direct bilirubin": Source("Bilirubin_direct"),
    "glucose": Source("Glucose"),
    "bedside glucose": Source("Glucose"),
    "lactate": Source("Lactate"),
    "magnesium": Source("Magnesium"),
    "phosphate": Source("Phosphate"),
    "potassium": Source("Potassium"),
    "total bilirubin": Source("Bilirubin_total"),
    "troponin - i": Source("TroponinI"),
    "hct": Source("Hct"),
    "hgb": Source("Hgb"),
    "ptt": Source("PTT"),
    "wbc x 1000": Source("WBC"),
    "fibrinogen": Source("Fibrinogen"),
    "platelets x 1000": Source("Platelets"),
}
_NURSES: Final[Mapping[tuple[str, ...], Source]] = {
    ("heart rate", "heart rate"): Source("HR"),
    ("respiratory rate", "respiratory rate"): Source("Resp"),
    ("o2 saturation", "o2 saturation"): Source("O2Sat"),
    ("temperature", "temperature (c)"): Source("Temp", celsius),
    ("temperature", "temperature (f)"): Source("Temp", celsius),
    ("non-invasive bp", "non-invasive bp systolic"): Source("SBP"),
    ("non-invasive bp", "non-invasive bp diastolic"): Source("DBP"),
    ("non-invasive bp", "non-invasive bp mean"): Source("MAP"),
    ("invasive bp", "invasive bp systolic"): Source("SBP"),
    ("invasive bp", "invasive bp diastolic"): Source("DBP"),
    ("invasive bp", "invasive bp mean"): Source("MAP"),
    ("map (mmhg)", "value"): Source("MAP"),
    ("arterial line map (mmhg)", "value"): Source("MAP"),
    ("end tidal co2", "end tidal co2"): Source("EtCO2"),
}
_RESPIRATORY: Final = {
    "fio2": Source("FiO2", fraction),
    "fio2 (%)": Source("FiO2", fraction),
    "o2 percentage": Source("FiO2", fraction),
    "set fraction of inspired oxygen (fio2)": Source("FiO2", fraction),
    "sao2": Source("O2Sat"),  # charted from the monitor, as in vitalPeriodic
    "etco2": Source("EtCO2"),
    "total rr": Source("Resp"),
    "rr (patient)": Source("Resp"),
}

TABLES: Final[Mapping[str, WideTable | LongTable]] = MappingProxyType(
    {
        "vitalPeriodic": WideTable(
            offset="observationoffset",
            columns={
                "heartrate": Source("HR"),
                "sao2": Source("O2Sat"),
                "temperature": Source("Temp", celsius),
                "systemicsystolic": Source("SBP"),
                "systemicmean": Source("MAP"),
                "systemicdiastolic": Source("DBP"),
                "respiration": Source("Resp"),
                "etco2": Source("EtCO2"),
            },
        ),
        "vitalAperiodic": WideTable(
            offset="observationoffset",
            columns={
                "noninvasivesystolic": Source("SBP"),
                "noninvasivemean": Source("MAP"),
                "noninvasivediastolic": Source("DBP"),
            },
        ),
        "lab": LongTable(
            offset="labresultoffset",
            keys=("labname",),
            value="labresult",
            entries={(name,): source for name, source in _LABORATORY.items()},
        ),
        "nurseCharting": LongTable(
            offset="nursingchartoffset",
            keys=("nursingchartcelltypevallabel", "nursingchartcelltypevalname"),
            value="nursingchartvalue",
            entries=_NURSES,
        ),
        "respiratoryCharting": LongTable(
            offset="respchartoffset",
            keys=("respchartvaluelabel",),
            value="respchartvalue",
            entries={(name,): source for name, source in _RESPIRATORY.items()},
        ),
    }
)

# what lies outside is no measurement; vital signs: the 2019 files hold nothing outside these
LIMITS: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "HR": (20, 300),
        "O2Sat": (20, 100),
        "Temp": (25, 46),
        "SBP": (20, 300),
        "MAP": (20, 300),
        "DBP": (20, 300),
        "Resp": (1, 100),
        "EtCO2": (10, 100),
        "BaseExcess": (-100, 100),
        "HCO3": (1, 100),
        "FiO2": (0.2, 1),
        "pH": (6.5, 8.5),
        "PaCO2": (5, 250),
        "SaO2": (20, 100),
        "AST": (1, 50_000),
        "BUN": (1, 280),
        "Alkalinephos": (1, 10_000),
        "Calcium": (1, 30),
        "Chloride": (20, 200),
        "Creatinine": (0.1, 50),
        "Bilirubin_direct": (0, 75),
        "Glucose": (10, 1_500),
        "Lactate": (0.1, 35),
        "Magnesium": (0.1, 20),
        "Phosphate": (0.1, 30),
        "Potassium": (1, 15),
        "Bilirubin_total": (0.1, 75),
        "TroponinI": (0, 1_000),
        "Hct": (5, 75),
        "Hgb": (1, 35),
        "PTT": (5, 500),
        "WBC": (0, 500),
        "Fibrinogen": (10, 3_000),
        "Platelets": (1, 3_000),
    }
)
MEASURED: Final = len(LIMITS)  # the variables that change from hour to hour stand first among the 40
