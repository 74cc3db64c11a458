"""A processing script: the mean of each column, with as many digits as an argument or a variable says."""

import argparse
import os
from pathlib import Path

import pandas

parser = argparse.ArgumentParser()
parser.add_argument("--digits", type=int, default=int(os.environ.get("DIGITS", "4")))
options = parser.parse_args()
data = pandas.read_csv("/opt/ml/processing/input/data.csv", header=None)
means = data.iloc[:, 1:].mean()
target = Path("/opt/ml/processing/means")
target.mkdir(parents=True, exist_ok=True)
(target / "means.csv").write_text("".join(f"{mean:.{options.digits}f}\n" for mean in means))
print(f"means of {len(means)} columns and {len(data)} rows with {options.digits} digits")
