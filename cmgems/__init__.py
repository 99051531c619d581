"""The Python API under the name of the distribution: `import cmgems as cm`, then `cm.pretrain`, `cm.predict`, ….

The code is in `cmgems_cli`; the names here are the same objects, loaded when they are first used.
"""

from cmgems_cli import __all__ as __all__
from cmgems_cli import __dir__ as __dir__
from cmgems_cli import __getattr__ as __getattr__
from cmgems_cli import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cmgems_cli import *  # noqa: F403
