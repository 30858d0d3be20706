"""Reference of the tokenizers: writes the conformance cases and the character tables of `openclip-text`.

    python xtask/reference/tokenizer.py cases        # conformance/tokenizer/*.jsonl
    python xtask/reference/tokenizer.py huggingface  # conformance/tokenizer/huggingface/
    python xtask/reference/tokenizer.py tables       # openclip-text/src/tokenizer/**/{tables,codec_tables,categories}.rs, data/

Needs open_clip_torch 3.3.0 and ftfy 6.3.1 on Python 3.11 (whose str methods and unicodedata are Unicode 14); the
versions are checked, because other ones give other tables.
"""

import argparse
import sys
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).resolve().parent))


def check_versions():
    from importlib.metadata import version

    wanted = {"open_clip_torch": "3.3.0", "ftfy": "6.3.1"}
    found = {name: version(name) for name in wanted}
    if found != wanted or unicodedata.unidata_version != "14.0.0":
        sys.exit(f"needs {wanted} and Unicode 14.0.0, found {found} and Unicode {unicodedata.unidata_version}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cases", "huggingface", "tables"])
    arguments = parser.parse_args()
    check_versions()
    if arguments.what == "tables":
        import tokenizer_tables

        tokenizer_tables.write(ROOT / "openclip-text/src/tokenizer")
    elif arguments.what == "huggingface":
        import tokenizer_huggingface

        tokenizer_huggingface.write(ROOT / "conformance/tokenizer/huggingface")
    else:
        import tokenizer_cases

        tokenizer_cases.write(ROOT / "conformance/tokenizer")


if __name__ == "__main__":
    main()
