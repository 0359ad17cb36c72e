"""The 55 diagnoses of the Hangzhou set by their names, and which of the scored classes of PhysioNet 2021 they are.

The names are those of the competition's list `hf_round1_arrythmia.txt` (the second round has 34 of them); what they
mean in English stands behind each. A diagnosis has the code of a scored class only where the class says the same or
includes it for certain; the codes are SNOMED CT as in the challenge's table (scores). The others have none: they are
broader or vaguer than a scored class, or something else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_SCORED: Final = {
    "窦性心律": "426783006",  # sinus rhythm
    "窦性心动过缓": "426177001",  # sinus bradycardia
    "窦性心动过速": "427084000",  # sinus tachycardia
    "窦性心律不齐": "427393009",  # sinus arrhythmia
    "心房颤动": "164889003",  # atrial fibrillation
    "快室率心房颤动": "164889003",  # atrial fibrillation with a fast ventricular rate
    "房性早搏": "284470004",  # premature atrial contraction
    "室上性早搏": "63593006",  # supraventricular premature beats
    "室性早搏": "427172004",  # premature ventricular contractions
    "起搏心律": "10370003",  # pacing rhythm
    "一度房室传导阻滞": "270492004",  # first degree atrioventricular block
    "右束支传导阻滞": "59118001",  # right bundle branch block
    "完全性右束支传导阻滞": "713427006",  # complete right bundle branch block
    "不完全性右束支传导阻滞": "713426002",  # incomplete right bundle branch block
    "左束支传导阻滞": "164909002",  # left bundle branch block
    "完全性左束支传导阻滞": "733534002",  # complete left bundle branch block
    "左前分支传导阻滞": "445118002",  # left anterior fascicular block
    "非特异性室内传导阻滞": "698252002",  # nonspecific intraventricular conduction block
    "非特异性室内传导延迟": "698252002",  # nonspecific intraventricular conduction delay
    "电轴左偏": "39732003",  # left axis deviation
    "电轴右偏": "47665007",  # right axis deviation
    "QRS低电压": "251146004",  # low QRS voltages
    "QT间期延长": "111975006",  # prolonged QT interval
    "下壁异常Q波": "164917005",  # abnormal Q waves, inferior wall
    "前间壁R波递增不良": "365413008",  # poor R wave progression, anteroseptal
    "T波改变": "164934002",  # T wave changes
    "非特异性T波异常": "164934002",  # nonspecific T wave abnormality
}
_UNSCORED: Final = (
    *("正常ECG", "临界ECG", "异常ECG"),  # normal, borderline and abnormal ECG
    *(
        "ST段改变",
        "ST-T改变",
        "非特异性ST段异常",
        "非特异性ST段与T波异常",
    ),  # of the ST segment, or of ST and T
    *("复极化异常", "早期复极化"),  # abnormal and early repolarisation
    *("左心室高电压", "左心室肥大", "右心室肥大", "右心房扩大"),  # high voltage, hypertrophy, enlargement
    *("肺心病型", "肺型P波"),  # cor pulmonale, P pulmonale
    *("逆钟向转位", "顺钟向转位"),  # counterclockwise and clockwise rotation
    *("快心室率", "慢心室率"),  # fast and slow ventricular rate
    *(
        "未下传的房性早搏",
        "短串房性心动过速",
    ),  # premature atrial beats not conducted, short runs of tachycardia
    *("二联律", "融合波"),  # bigeminy, fusion beats
    *("差异性传导", "室内差异性传导"),  # aberrant conduction
    *(
        "房室传导延缓",
        "短PR间期",
        "双分支传导阻滞",
    ),  # slow atrioventricular conduction, short PR, bifascicular block
)
CODES: Final[Mapping[str, str]] = MappingProxyType(_SCORED)
NAMES: Final = (*_SCORED, *_UNSCORED)


def normalised(name: str) -> str:
    """Return a name without outer blanks and with plain letters and signs, as the competition's list writes it."""
    return unicodedata.normalize("NFKC", name).strip()
