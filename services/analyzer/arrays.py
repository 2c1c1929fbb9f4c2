"""Names the array types that several rooms share: an alias gives the element type, a docstring gives the shape."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
# Positions in another array: most often frames of `Video.pts`.
Indices = NDArray[np.intp]
# Levels of a picture, of one of its planes, or of a packed buffer.
Pixels = NDArray[np.uint8]
