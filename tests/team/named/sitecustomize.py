"""Gives every Python of a host the host's name, as if the machine had it: also those that a guard starts."""

import os
import socket

if "TEAM_HOST" in os.environ:
    socket.gethostname = lambda: os.environ["TEAM_HOST"]
