"""The baseline of a command's start: a Typer app that parses one flag and prints one table of rich."""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def main(size: Annotated[int, typer.Option(help="A size.")] = 3) -> None:
    """Print one table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "size")
    table.add_row("x", str(size))
    Console().print(table)


if __name__ == "__main__":
    app()
