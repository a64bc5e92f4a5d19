"""The program `convoscope` and its commands, in the order in which its help lists them."""

from __future__ import annotations

from cyclopts import App, Parameter

from .compare import compare
from .data import data
from .look import look
from .model import model
from .predict import predict
from .relearn import relearn
from .search import search
from .studio import studio
from .test import test
from .train import train

app = App(
    name="convoscope",
    help="""Train an image classifier on your own pictures, and see every number in it.

    For instance, with one folder of pictures for each class in photos/:

    convoscope data photos/

    convoscope train photos/

    convoscope predict runs/photos-small-1 new.jpg

    If you have no pictures of your own, begin with: convoscope train builtin:drawings/apple,banana
    """,
    version_flags=["--version"],
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)
app.command(data, sort_key=1)
app.command(model, sort_key=2)
app.command(
    train,
    sort_key=3,
    usage="Usage: convoscope train SOURCE [OPTIONS]\n       convoscope train --resume RUN [--epochs N]",
)
app.command(
    relearn,
    sort_key=3.5,
    usage="Usage: convoscope relearn BACKBONE SOURCE [OPTIONS]\n       convoscope relearn RUN SOURCE --add [OPTIONS]",
)
app.command(search, sort_key=3.7, usage="Usage: convoscope search SOURCE [--minutes N] [OPTIONS]")
app.command(test, sort_key=4, usage="Usage: convoscope test RUN [SOURCE] [OPTIONS]")
app.command(predict, sort_key=5, usage="Usage: convoscope predict RUN IMAGES... [OPTIONS]")
app.command(compare, sort_key=6, usage="Usage: convoscope compare RUN RUN... [OPTIONS]")
app.command(look)
app.command(studio, sort_key=9)
