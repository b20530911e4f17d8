"""Aliases of `sightline.models.opening`, until every use has its new name."""

from sightline.models.opening import OpenModel, open_attention

Subject = OpenModel  # alias
opened = open_attention  # alias
