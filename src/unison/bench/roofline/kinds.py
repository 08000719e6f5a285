"""What kind of work is an operation? Names of kernels in the words of a report."""

_NAMES: dict[str, tuple[str, ...]] = {
    "products": ("mm", "addmm", "bmm", "baddbmm", "_int_mm", "mv", "addmv", "dot"),
    "attention": (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
    ),
    "norms": ("native_layer_norm", "_fused_rms_norm"),
    "activations": ("gelu", "silu", "relu", "sigmoid", "tanh", "threshold"),
    "softmax": ("_softmax", "_log_softmax", "_safe_softmax", "logsumexp"),
    "look-ups": ("embedding", "embedding_dense", "gather", "index", "index_select", "scatter",
                 "scatter_", "scatter_add", "index_put", "index_put_", "_index_put_impl_",
                 "index_copy", "masked_select", "_embedding_bag"),
    "searches": ("sort", "argsort", "topk", "argmax", "argmin", "searchsorted", "max", "min",
                 "unique", "_unique2", "unique_consecutive", "nonzero", "isin", "kthvalue"),
    "sums": ("sum", "mean", "cumsum", "amax", "amin", "prod", "any", "all", "linalg_vector_norm",
             "cummax", "std", "var"),
    "copies": ("copy_", "clone", "cat", "_to_copy", "stack", "fill_", "zero_", "zeros_like",
               "ones_like", "full_like", "full", "zeros", "ones", "constant_pad_nd", "repeat",
               "contiguous", "slice_backward", "select_backward", "arange", "scalar_tensor"),
    "optimiser": ("_fused_adamw_", "_fused_adam_"),
}  # fmt: skip
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names}

BETWEEN = "between operations"


def kind_of(name: str) -> str:
    """Return what kind of work a kernel does, by its name; element by element if nothing else."""
    if name.startswith("_foreach_"):
        return "optimiser"
    forward = name.removesuffix("_data").removesuffix("_backward")
    return _KINDS.get(name) or _KINDS.get(forward, "element by element")
