"""Records of patients: PhysioNet/CinC 2019 (by the hour) and 2021 (ECG). Read, repair, divide, make up samples.

Nothing here imports torch.
"""

from kdsearch.trainables.records.checking import RecordsReport, check_records
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
from kdsearch.trainables.records.psv import VARIABLES, Patient, read_patient
from kdsearch.trainables.records.sets import RecordFiles, RecordSet, find_records, record_set
from kdsearch.trainables.records.summary import ReadSummary, Repaired, UnreadableRecordError

__all__ = [
    "LEADS",
    "VARIABLES",
    "EcgReader",
    "EcgRecord",
    "EcgRecords",
    "EcgSettings",
    "Part",
    "Patient",
    "Patients",
    "ReadSummary",
    "RecordFiles",
    "RecordSet",
    "RecordsReport",
    "Repaired",
    "Scaling",
    "Shares",
    "UnreadableRecordError",
    "check_records",
    "divide",
    "features",
    "find_records",
    "load_patients",
    "load_records",
    "read_patient",
    "record_set",
    "sample_records",
]
