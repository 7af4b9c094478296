# %% [markdown]
# # Runs at hand
#
# An experiment by name, trained into a folder from a program; opened again, evaluated, sampled and drawn. The same
# folder serves the command line: `./launch/local.sh report --workdir=…`.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from dlcore import data
from dlcore.train import session

folder = Path(tempfile.mkdtemp()) / "first"
run = session.train("classify", data="digits", preset="mlp", settings=["widths=32", "train.steps=200"], folder=folder)
print({name: round(value, 3) for name, value in run.metrics.items() if isinstance(value, float)})

# %% [markdown]
# A finished run opens in no time, with params, state, config and functions.

# %%
again = session.open_run(folder)
assert again.metrics == run.metrics
images = data.load("digits").test.arrays["image"][:8]
probabilities = again.predict(images)

fig, grid = plt.subplots(1, 8, figsize=(8, 1.4))
for axes, image, row in zip(grid, images, probabilities, strict=True):
    axes.imshow(image[..., 0], cmap="gray_r")
    axes.set_title(f"{row.argmax()}: {row.max():.2f}", fontsize=9)
    axes.axis("off")
plt.show()

# %% [markdown]
# What lies in the folder is plain: JSON, PNG, one self-contained report, and checkpoints.

# %%
for path in sorted(folder.rglob("*")):
    if path.suffix in (".json", ".png", ".html"):
        print(path.relative_to(folder))
