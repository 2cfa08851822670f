"""The paper's tables and figures: what is run for them, and what is made of the results.

Importing it registers every model.
"""

import baselines  # noqa: F401
import DiffRec  # noqa: F401
import L_DiffRec  # noqa: F401
import T_DiffRec  # noqa: F401
