"""The rule of precision, on what is handed to the compiler: every product of these functions asks for HIGHEST."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore import backprop, data, networks, nn, optim, stats, studies, visualize
from dlcore.evaluation import collapse
from dlcore.generative import decoder, gaussian_classes, vae
from dlcore.generative.flow import ActNorm, InvertibleConv, InvertibleConvPLU, chain
from dlcore.generative.flow.density import log_prob, sample
from dlcore.nn import dense
from dlcore.norms import global_norm
from dlcore.optim import _cma as cma
from dlcore.optim import _gauss_newton as gauss_newton
from dlcore.optim import _lanczos as lanczos
from dlcore.optim import _least_squares as least_squares
from dlcore.optim import _line_search as line_search
from dlcore.optim import _newton as newton
from dlcore.optim import surfaces
from dlcore.precision import add_rows, highest, matmul, row_products
from dlcore.stats import _fit as fit
from dlcore.stats import _minibatch as minibatch
from dlcore.studies import _polynomial as polynomial
from dlcore.train import _ensemble as ensemble
from dlcore.types import Model

A, Y, X = jnp.eye(4, 3) + 0.1, jnp.arange(4.0), jnp.arange(1.0, 4.0)
KEY = jax.random.key(0)


def linear_flow():
    flow = chain(ActNorm(), InvertibleConv(), InvertibleConvPLU(4))
    return flow, flow.init(KEY, jax.random.normal(KEY, (6, 2, 2, 4)))


def _three(method, f, x):
    now = method.init(f, x, KEY)
    for _ in range(2):
        now = method.step(f, now, KEY)
    return now.x


def bowl(x):
    return ((x - 1) ** 4).sum() + (x**2).sum()


def residuals(x):
    return jnp.concatenate([x**2 - 1, x - 2])


def form(x):
    """A quadratic form with products in the default precision."""
    return x @ (A.T @ (A @ x))


def by_line(params, y):
    """A log-density up to a constant, with a product in the default precision."""
    return -((A @ params["w"] - y) ** 2)


LABELS = jnp.array([0, 0, 1, 1])
LINE = Model(lambda key, x: ({}, {}), lambda p, s, x, **_: (x.reshape(len(x), -1)[:, :2] * 2, s))
"""A network without products."""

FUNCTIONS = {
    "matmul": (matmul, A.T, A),
    "highest": (highest(lambda a, b: jnp.linalg.inv(a.T @ a) @ jnp.einsum("ij,i->j", a, b)), A, Y),
    "flow": (lambda x: log_prob(*linear_flow(), x), jnp.ones((2, 2, 2, 4))),
    "gradient of a flow": (
        jax.grad(lambda p: log_prob(linear_flow()[0], p, jnp.ones((2, 2, 2, 4))).sum()),
        linear_flow()[1],
    ),
    "samples of a flow": (lambda key: sample(key, *linear_flow(), (2, 2, 2, 4)), KEY),
    "activity": (vae.activity, A, jnp.ones(4, bool)),
    "categorical mean": (decoder.categorical(3).mean, jnp.ones((2, 6))),
    "fourier features": (collapse.fourier_features, A, jnp.ones((3, 5))),
    "svd": (least_squares.solve_svd, A, Y),
    "ridge": (lambda m, y: least_squares.solve_ridge(m, y, 0.1), A, Y),
    "gradient of ridge": (jax.grad(lambda m: least_squares.solve_ridge(m, Y, 0.1).sum()), A),
    "newton": (lambda x: _three(newton.newton(), bowl, x), X),
    "damped newton": (lambda x: _three(newton.damped_newton(), bowl, x), X),
    "newton cg": (lambda x: _three(newton.newton_cg(), bowl, x), X),
    "gauss newton": (lambda x: _three(gauss_newton.gauss_newton(), residuals, x), X),
    "levenberg": (lambda x: _three(gauss_newton.levenberg_marquardt(), residuals, x), X),
    "cma": (lambda x: _three(cma.cma(0.5), bowl, x), X),
    "backtracking": (
        lambda x: line_search.backtracking()(bowl, x, bowl(x), jax.grad(bowl)(x), -jax.grad(bowl)(x))[0],
        X,
    ),
    "wolfe": (
        lambda x: line_search.strong_wolfe()(bowl, x, bowl(x), jax.grad(bowl)(x), -jax.grad(bowl)(x))[0],
        X,
    ),
    "quadratic": (lambda x: surfaces.quadratic([1.0, 2.0, 3.0]).f(x), X),
    "lanczos": (lambda basis: lanczos._advance(lambda v: 2 * v, lambda v: v)(basis, 0), A),
    "batch moments": (lambda g: minibatch.batch_moments(g, 2).covariance, A),
    "predicted": (lambda g: minibatch.predicted_covariance(g, 2), A),
    "sampled": (lambda g: minibatch.sampled_noise(KEY, g, 2, 5), A),
    "fit": (lambda x, y: jax.tree.leaves(fit.fit_linear(x, y)), A, Y + jnp.asarray([0.0, 1.0, -1.0, 0.5])),
    "polynomials": (lambda x, y: polynomial.fit_degrees(x, y, 2), jnp.linspace(-1, 1, 4), Y),
    "ridge polynomials": (lambda x, y: polynomial.fit_ridge(x, y, 2, jnp.ones(3)), jnp.linspace(-1, 1, 4), Y),
    "values of polynomials": (polynomial.predict, A, jnp.linspace(-1, 1, 5)),
    "members": (ensemble.error_model, A),
    "infidelity": (lambda m: visualize.infidelity(LINE, {}, {}, A, LABELS, m, key=KEY, std=0.1, samples=2), A),
    "occlusion": (lambda x: visualize.occlusion(LINE, {}, {}, x, LABELS[:1], window=2), jnp.ones((1, 3, 3, 1))),
    "sums of gradients": (
        lambda x: visualize.smooth_grad(LINE, {}, {}, x, LABELS, key=KEY, std=0.1, samples=2), A,
    ),
    "scaling with depth": (lambda k: studies.scaling(k, nn.init.he_normal, jnp.tanh, depth=2, width=3), KEY),
    "signals": (lambda x: nn.convolve(x, x), X),
    "a convolution as a matrix": (lambda k: nn.conv_matrix(k, (3, 3), groups=2), jnp.ones((2, 2, 1, 2))),
    "linear layers folded": (
        lambda w: networks.fold_linear({"dense_0": {"kernel": w.T}, "dense_1": {"kernel": w}})["kernel"], A,
    ),
    "zoomed": (lambda x: data.random_zoom(KEY, x, 0.1), jnp.ones((1, 3, 3, 1))),
    "cropped": (lambda x: data.random_resized_crop(KEY, x), jnp.ones((1, 3, 3, 1))),
    # What is asked for of a function holds for its own products, too.
    "hessian": (lambda x: optim.hessian(form, x), X),
    "hessian-vector": (lambda x: optim.hvp(form, x, x), X),
    "gauss-newton-vector": (lambda x: optim.gnvp(form, lambda x: A.T @ (A @ x), x, x), X),
    "jacobian": (lambda x: optim.jacobian(lambda x: A @ x, x), X),
    "second derivative": (lambda x: optim.second_directional_derivative(form, x, x), X),
    "best rate": (lambda x: optim.best_rate(form, x), X),
    "least curvature": (lambda x: optim.least_curvatures(form, x[None]), X),
    "convexity": (lambda x: optim.jensen_gaps(form, x[None], x[None], x[:1]), X),
    "minimisation": (lambda x: optim.run(optim.gradient_descent(0.1), form, x, steps=2).x, X),
    "krylov space": (lambda basis: lanczos._advance(lambda v: A.T @ (A @ v), lambda v: v)(basis, 0), jnp.eye(3)),
    "fitted density": (
        lambda y: stats.newton_fit(lambda p, y: -by_line(p, y).sum(), {"w": X}, y, steps=2).params, Y,
    ),
    "likelihood": (lambda y: stats.negative_log_likelihood(by_line, {"w": X}, y), Y),
    "central differences": (lambda x: backprop.central_differences(form, x), X),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_product_asks_for_full_precision(name):
    function, *arguments = FUNCTIONS[name]
    text = jax.jit(function).lower(*arguments).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line or "stablehlo.convolution" in line]
    assert products or name in WITHOUT, f"{name} has no product"
    assert all(line.count("HIGHEST") == 2 for line in products), products


WITHOUT = {"newton"}
"""Functions whose products are inside LAPACK calls."""


def test_networks_compute_in_the_default_precision():
    text = jax.jit(dense).lower(A, jnp.ones((3, 2))).as_text()
    assert "dot_general" in text and "HIGHEST" not in text


def test_the_decorator_ends_with_its_function_also_when_calls_nest_or_fail():
    inner = highest(lambda a: a.T @ a)

    @highest
    def fails(a):
        inner(a)
        assert jax.config.jax_default_matmul_precision == "highest"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails(A)
    text = jax.jit(lambda a: (inner(a), a.T @ a)).lower(A).as_text()
    assert text.count("dot_general") == 2 and text.count("[HIGHEST, HIGHEST]") == 1


ROOT = Path(__file__).parents[1] / "dlcore"
EXACT = [
    *(path for room in ("stats", "optim", "generative", "retrieval", "visualize", "evaluation", "studies", "losses")
      for path in (ROOT / room).glob("**/*.py")),
    *(ROOT / name for name in ("train/_ensemble.py", "networks/_symmetry.py", "nn/_signal.py", "nn/_toeplitz.py",
                               "nn/_spectral.py", "backprop/_jacobian.py", "data/_crop.py", "data/_zoom.py")),
]  # fmt: skip
ON_THE_HOST = {
    "evaluation/collapse.py": 4, "evaluation/_sample_quality.py": 6, "optim/_lanczos.py": 1, "optim/surfaces.py": 1,
    "retrieval/_moments.py": 1,
}  # fmt: skip
"""Products of NumPy arrays by file."""
PRODUCTS = (
    "dot", "vdot", "inner", "einsum", "tensordot", "dot_general", "convolve", "matmul", "conv_general_dilated",
    "cov", "corrcoef", "matrix_power", "multi_dot", "multivariate_normal", "cdist",
)  # fmt: skip


@pytest.mark.parametrize("path", EXACT, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_product_is_left_to_the_default(path):
    """In the rooms of statistics, linear algebra and likelihoods: `matmul`, `precision=`, or inside `highest`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    full = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
            and any(isinstance(d, ast.Name) and d.id == "highest" for d in node.decorator_list)]  # fmt: skip
    inside = {id(node) for function in full for node in ast.walk(function)}
    bare = []
    for node in ast.walk(tree):
        operator = isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
        call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PRODUCTS
        if operator or (call and not any(keyword.arg == "precision" for keyword in node.keywords)):
            bare += [] if id(node) in inside else [node.lineno]
    assert len(bare) == ON_THE_HOST.get(str(path.relative_to(ROOT)), 0), bare


@pytest.mark.slow
def test_sums_over_millions_of_rows_keep_their_digits():
    """A product adds its terms one after the other: of three million tenths a float32 loses some percent."""
    rows, tenth = 3_000_001, float(np.float32(0.1))
    x = jnp.full((rows, 2), 0.1)
    np.testing.assert_allclose(np.asarray(add_rows(x), float) / rows, tenth, rtol=1e-4)
    np.testing.assert_allclose(nn.row_moments(x)[0], tenth, rtol=1e-4)
    np.testing.assert_allclose(row_products(x[:, :1], 3 * x) / rows, 3 * tenth**2, rtol=1e-4)
    assert float(global_norm(x)) == pytest.approx(tenth * (2 * rows) ** 0.5, rel=1e-4)
    values = np.arange(rows, dtype=np.float32)[:, None] % 7
    model = gaussian_classes.fit_naive_bayes(jnp.asarray(values), jnp.arange(rows) % 2, 2)
    for c in range(2):
        own = values[c::2].astype(float)
        np.testing.assert_allclose([model.mean[c, 0], model.variance[c, 0]], [own.mean(), own.var()], rtol=1e-4)


@pytest.mark.parametrize("n", [1, 5, 8192, 8193, 20_000])
def test_rows_add_up_however_many_there_are(n):
    x, y = (np.random.default_rng(i).normal(size=(n, 3)).astype(np.float32) for i in (0, 1))
    np.testing.assert_allclose(add_rows(jnp.asarray(x)), x.astype(float).sum(0), rtol=1e-4, atol=1e-3)
    expected = x.astype(float).T @ y
    np.testing.assert_allclose(row_products(jnp.asarray(x), jnp.asarray(y)), expected, rtol=1e-4, atol=1e-3)
