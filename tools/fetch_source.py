# fetch_source.py NAME VERSION: writes the source archive that the package index has of it to source.tar.gz, and does
# nothing else with it. `pip download` would install a build system first and run the package's own code.
# Reads: pip's settings, for they say where the index is and how to get there. Run by tools/setup.sh.
# Why it reaches into pip: pip has no command for this. Where a later pip has changed inside, `pip download` remains.
import sys

from pip._internal.commands import create_command
from pip._vendor.packaging.specifiers import SpecifierSet

name, version = sys.argv[1:]
command = create_command("download")
options, _ = command.parse_args(["--no-binary", name])
with command.main_context():
    session = command.get_default_session(options)
    finder = command._build_package_finder(options, session)
    found = finder.find_best_candidate(name, SpecifierSet("==" + version)).best_candidate
    if found is None:
        sys.exit(f"the package index has no source of {name} {version}")
    response = session.get(found.link.url_without_fragment)
    response.raise_for_status()
    with open("source.tar.gz", "wb") as file:
        file.write(response.content)
