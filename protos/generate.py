"""Generate Python from the contracts: `make protos`.

Everything is made from what the pinned packages hold, without a network: google's types ship as .proto files, and
protovalidate ships its own options as a descriptor only, from which both the Python module and the import are made.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OUT = ROOT / "gen"
PACKAGES = Path(sysconfig.get_paths()["purelib"])


def main() -> int:
    """Replace protos/gen with what the contracts say now; with `--check`, only tell whether it is that."""
    if "--check" not in sys.argv[1:]:
        shutil.rmtree(OUT, ignore_errors=True)
        generate(OUT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = _differences(OUT, Path(folder))
    for path in stale:
        print(f"protos/gen/{path} is not what the contracts say: run `make protos`", file=sys.stderr)
    return 1 if stale else 0


def generate(out: Path) -> None:
    """Write everything below `out`."""
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "turnout").rglob("*.proto"))
    services = [source for source in sources if source.endswith("_service.proto")]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        validate = Path(folder) / "validate.binpb"
        validate.write_bytes(_validate_descriptors())
        common = [f"--descriptor_set_in={validate}"]
        imports = [f"-I{ROOT}", f"-I{PACKAGES}"]
        _protoc(*common, f"--python_out={out}", f"--pyi_out={out}", "buf/validate/validate.proto")
        _protoc(*common, *imports, f"--python_out={out}", f"--mypy_out=quiet:{out}", *sources)
        # Message-only files would get an empty _pb2_grpc.py: only services go to the gRPC plugin.
        _protoc(*common, *imports, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *services)
        _protoc(*common, *imports, "--include_imports", "--include_source_info", f"-o{out / 'image.binpb'}", *sources)


def _differences(ours: Path, fresh: Path) -> list[str]:
    files = {
        str(path.relative_to(root))
        for root in (ours, fresh)
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    return sorted(name for name in files if _read(ours / name) != _read(fresh / name))


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _validate_descriptors() -> bytes:
    # A private module of protovalidate: pyproject pins its major, and a contract test loads what is made here.
    import protovalidate._gen.buf.validate.validate_pb as validate
    from google.protobuf import descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2

    files = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, timestamp_pb2, field_mask_pb2):
        files.file.add().MergeFromString(module.DESCRIPTOR.serialized_pb)
    files.file.add().MergeFromString(validate._DESC.proto.to_binary())
    return files.SerializeToString()


def _protoc(*arguments: str) -> None:
    # The plugins of mypy-protobuf lie beside this interpreter, which need not be on PATH.
    bin_folder = Path(sys.executable).parent
    plugins = [
        f"--plugin=protoc-gen-mypy={bin_folder / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={bin_folder / 'protoc-gen-mypy_grpc'}",
    ]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *plugins, *arguments], check=True, cwd=ROOT)  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
