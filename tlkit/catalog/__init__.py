"""What tlkit knows before anything is built: literal tables, importing nothing.

A new backbone is an entry in `backbones.py`, a new classic net one in `nets.py`; the contract tests pick both up.
"""

from tlkit.catalog.backbones import BACKBONES as BACKBONES
from tlkit.catalog.backbones import DEFAULT_BACKBONE as DEFAULT_BACKBONE
from tlkit.catalog.backbones import Backbone as Backbone
from tlkit.catalog.backbones import Download as Download
from tlkit.catalog.backbones import Package as Package
from tlkit.catalog.nets import NETS as NETS
from tlkit.catalog.nets import Net as Net

BUILDABLE = BACKBONES | NETS
