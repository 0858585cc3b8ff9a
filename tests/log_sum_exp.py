"""What the operation of log_sum_exp.patch must do, run in a copy of the package that has it: see test_extending.py."""

import numpy as np
import pytest
import torch

import numbapool
import numbapool.nn
from numbapool import kinds, reference

SOFT = kinds.LogSumExp(beta=2.0)
WINDOW = {"kernel_size": (2, 3), "stride": 2, "padding": (1, 0), "ceil_mode": True}
rng = np.random.default_rng(0)
X = rng.standard_normal((2, 3, 7, 6))


def pooled(x, **window):
    return numbapool.pool(x, SOFT, axes=(2, 3), **window)


# NumPy, forward and backward, by the definition; other axes and strides.
out = pooled(X, **WINDOW)
np.testing.assert_allclose(out, reference.log_sum_exp_pool(X, 2.0, rank=2, **WINDOW), rtol=1e-12)
grad = rng.standard_normal(out.shape)
grad_input = numbapool.pool_backward(grad, X, SOFT, axes=(2, 3), **WINDOW)
expected = reference.log_sum_exp_pool_backward(grad, X, 2.0, rank=2, **WINDOW)
np.testing.assert_allclose(grad_input, expected, rtol=1e-10, atol=1e-13)
channels_last = numbapool.pool(np.moveaxis(X, 1, -1), SOFT, axes=(1, 2), **WINDOW)
np.testing.assert_allclose(channels_last, np.moveaxis(out, 1, -1), rtol=1e-12)
np.testing.assert_allclose(pooled(X[:, ::-1], **WINDOW), out[:, ::-1], rtol=1e-12)

# torch: the same values, its first and second gradient.
x = torch.from_numpy(X).requires_grad_()
result = pooled(x, **WINDOW)
np.testing.assert_allclose(result.detach(), out, rtol=1e-12)
(gradient,) = torch.autograd.grad(result, x, torch.from_numpy(grad))
np.testing.assert_allclose(gradient, grad_input, rtol=1e-9, atol=1e-12)
small = torch.from_numpy(X[:1, :1, :5, :5].copy()).requires_grad_()
assert torch.autograd.gradcheck(lambda x: pooled(x, **WINDOW), (small,))
assert torch.autograd.gradgradcheck(lambda x: pooled(x, **WINDOW), (small,))

# explain, a layer, a module, its name, more axes than kernels take at once, and its errors.
explanation = numbapool.explain("pool_backward", (1, 3, 8, 8), SOFT, 2, axes=(2, 3))
assert "to each by its share of the exponentials" in f"{explanation}"
assert numbapool.explain("pool", (1, 3, 8, 8), "log_sum_exp", 2, axes=(2, 3)).out_shape == (1, 3, 4, 4)
values, pullback = numbapool.Pool(SOFT, 2, axes=-1).vjp(X)
np.testing.assert_allclose(pullback(np.ones_like(values)).sum(), values.size)
module = numbapool.nn.Pool(SOFT, 2, axes=-1)
torch.testing.assert_close(module(x.detach()), torch.from_numpy(values))
np.testing.assert_allclose(numbapool.pool(np.zeros((2, 2, 2, 2)), "log_sum_exp", 2), np.log(16))
for beta, error in ((0, ValueError), ("1", TypeError)):
    with pytest.raises(error, match="beta"):
        kinds.LogSumExp(beta)
