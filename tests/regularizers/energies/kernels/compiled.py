"""Compiles kernels without a GPU, in a process of its own: here Triton may be its interpreter.

    python compiled.py '[["pairs._pairs_kernel", 90, {"ROWS": 64, ...}, {"num_warps": 4, "num_stages": 2}], ...]'

prints a line for each: shared memory in bytes, and how many products are on Hopper's tensor cores.
"""

import json
import sys
from importlib import import_module

TYPES = {"table": "*i64", "near": "*i32", "a": "*fp64", "inverses": "*fp64"}
TYPES |= dict.fromkeys(("rows", "most", "count", "n", "blocks", "first", "depth"), "i32")
TYPES |= dict.fromkeys(("FLOOR", "PARALLEL", "EPS", "LEAST", "LIMIT", "TINY", "SHORTEST", "SHARE"), "fp32")
LARGEST = dict.fromkeys(("HALF", "SHORTENS", "GRADIENT", "SCALED", "EXACT", "ALIGNED"), True) | {
    "S": 2.0,
    "PRECISION": "tf32x3",
}


def main(jobs):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    for path, architecture, sizes, options in jobs:
        module, _, name = path.partition(".")
        kernel = getattr(import_module(f"comhe.regularizers.energies.kernels.{module}"), name)
        constants = {n: (LARGEST | sizes)[n] for n in kernel.arg_names if n in LARGEST | sizes}
        signature = {n: "constexpr" if n in constants else TYPES.get(n, "*fp32") for n in kernel.arg_names}
        aligned = [i for i, n in enumerate(kernel.arg_names) if signature[n].startswith("*") or n == "rows"]
        attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}  # else nothing is loaded ahead
        source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=attributes)
        made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
        print(made.metadata.shared, made.asm["ptx"].count("wgmma.mma_async"), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
