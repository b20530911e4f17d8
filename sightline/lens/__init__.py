"""What people look at: pages made from finished results; this room computes nothing of its own."""

from .page import read_page, render, write_page

__all__ = ["read_page", "render", "write_page"]
