"""All cases of bad input, in the groups of the page that is written from them."""

from __future__ import annotations

from tests.bad_input.case import Case
from tests.bad_input.cases_of_categories import CATEGORIES
from tests.bad_input.cases_of_columns import COLUMNS
from tests.bad_input.cases_of_databases import DATABASES
from tests.bad_input.cases_of_declarations import VALUES as DECLARED
from tests.bad_input.cases_of_declarations import YAML
from tests.bad_input.cases_of_dialects import DIALECTS
from tests.bad_input.cases_of_files import FILES
from tests.bad_input.cases_of_keys import JOINED_KEYS
from tests.bad_input.cases_of_names import NAMES
from tests.bad_input.cases_of_partitions import KEYS, WHOLE
from tests.bad_input.cases_of_parts import PARTS_AND_FOLDERS
from tests.bad_input.cases_of_texts import TEXTS
from tests.bad_input.cases_of_values import VALUES

GROUPS: dict[str, list[Case]] = {
    "Files": FILES,
    "Parts and folders": PARTS_AND_FOLDERS,
    "Text": TEXTS,
    "CSV as other people write it": DIALECTS,
    "Columns and contracts": COLUMNS,
    "Names": NAMES,
    "Values": VALUES,
    "Categories": CATEGORIES,
    "Keys": KEYS,
    "Keys of several columns": JOINED_KEYS,
    "Whole partitions": WHOLE,
    "Databases": DATABASES,
    "Declarations, contracts and suites": [*DECLARED, *YAML],
}
CASES = [case for group in GROUPS.values() for case in group]
