"""Which products the machine is fast in."""

import torch


def has_bf16_products() -> bool:
    """Whether products in bfloat16 are faster than in float32 on the best device here."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not torch.backends.mkldnn.is_available():
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "amx"))
