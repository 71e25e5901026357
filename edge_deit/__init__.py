"""Edge DeiT: a trained DeiT becomes the files a phone runs, and each file is checked."""

from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import VARIANTS, DeiTConfig
from edge_deit.model.deit import DeiT

__all__ = ["VARIANTS", "DeiT", "DeiTConfig", "EdgeDeitError", "__version__"]

__version__ = "0.1.0"
