# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Property tests have no deadline for one example: a busy machine would fail them at random."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("gates", deadline=None)
settings.load_profile("gates")
