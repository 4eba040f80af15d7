"""What the pictures of the templates show: a table, by the names of the templates.

Every image on a card comes from a run of the template's own graph, with the files of the miniature in the place of the
published ones. A card says what differs from the template; a card without a run is a diagram, and says so.
"""

from __future__ import annotations

from . import images, models, text
from .card import Card

CARDS: dict[str, Card] = {**text.CARDS, **images.CARDS, **models.CARDS}
