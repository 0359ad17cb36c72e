"""Records of patients: PhysioNet/CinC 2019 and eICU (by the hour), PhysioNet/CinC 2021 and the Hangzhou cup (ECG).

Read, repair, divide, make up samples.

Nothing here imports torch.
"""

from kdsearch.trainables.records.cache import CacheError, cache_folder
from kdsearch.trainables.records.checking import RecordsReport, check_records
from kdsearch.trainables.records.eicu import load_eicu
from kdsearch.trainables.records.hangzhou import HangzhouReader
from kdsearch.trainables.records.leads import LEADS
from kdsearch.trainables.records.made_up import sample_records
from kdsearch.trainables.records.parts import Part, Shares, divide
from kdsearch.trainables.records.physionet2019 import Patients, Scaling, features, load_patients
from kdsearch.trainables.records.physionet2021 import (
    EcgReader,
    EcgRecord,
    EcgRecords,
    EcgSettings,
    load_records,
)
from kdsearch.trainables.records.prepared import (
    PreparedHours,
    PreparedSignals,
    epoch_batches,
    prepared_hours,
    prepared_signals,
)
from kdsearch.trainables.records.psv import VARIABLES, Patient, read_patient
from kdsearch.trainables.records.sets import RecordFiles, RecordSet, find_records, record_set
from kdsearch.trainables.records.summary import ReadSummary, Repaired, UnreadableRecordError

__all__ = [
    "LEADS",
    "VARIABLES",
    "CacheError",
    "EcgReader",
    "EcgRecord",
    "EcgRecords",
    "EcgSettings",
    "HangzhouReader",
    "Part",
    "Patient",
    "Patients",
    "PreparedHours",
    "PreparedSignals",
    "ReadSummary",
    "RecordFiles",
    "RecordSet",
    "RecordsReport",
    "Repaired",
    "Scaling",
    "Shares",
    "UnreadableRecordError",
    "cache_folder",
    "check_records",
    "divide",
    "epoch_batches",
    "features",
    "find_records",
    "load_eicu",
    "load_patients",
    "load_records",
    "prepared_hours",
    "prepared_signals",
    "read_patient",
    "record_set",
    "sample_records",
]
