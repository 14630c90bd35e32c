"""The policies that come with the package; for those who need their folders and not what loads them."""

from astune.models.nano import NANO_PATH
from astune.models.nano_refine import NANO_REFINE_PATH

#: Folders by name.
BUNDLED = {"nano": NANO_PATH, "nano_refine": NANO_REFINE_PATH}
