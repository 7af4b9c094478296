"""The rule of precision, on what is handed to the compiler: every product of these functions asks for HIGHEST."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from dlcore.evaluation import collapse
from dlcore.generative import decoder, vae
from dlcore.generative.flow import ActNorm, InvertibleConv, InvertibleConvPLU, chain
from dlcore.generative.flow.density import log_prob, sample
from dlcore.nn import dense
from dlcore.optim import _cma as cma
from dlcore.optim import _gauss_newton as gauss_newton
from dlcore.optim import _lanczos as lanczos
from dlcore.optim import _least_squares as least_squares
from dlcore.optim import _line_search as line_search
from dlcore.optim import _newton as newton
from dlcore.optim import surfaces
from dlcore.precision import highest, matmul
from dlcore.stats import _fit as fit
from dlcore.stats import _minibatch as minibatch
from dlcore.studies import _polynomial as polynomial
from dlcore.train import _ensemble as ensemble

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
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_product_asks_for_full_precision(name):
    function, *arguments = FUNCTIONS[name]
    text = jax.jit(function).lower(*arguments).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line or "stablehlo.convolution" in line]
    assert products or name in WITHOUT, f"{name} has no product"
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products), products


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
EXACT = [*ROOT.glob("stats/*.py"), *ROOT.glob("optim/*.py"), *ROOT.glob("generative/**/*.py"),
         *(ROOT / name for name in ("evaluation/collapse.py", "evaluation/_likelihood.py", "studies/_polynomial.py",
                                    "studies/_many.py", "train/_ensemble.py"))]  # fmt: skip
ON_THE_HOST = {"collapse.py": 4, "_lanczos.py": 1, "surfaces.py": 1}
"""Products of NumPy arrays by file."""
PRODUCTS = ("dot", "vdot", "inner", "einsum", "tensordot", "dot_general", "convolve", "matmul")


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
    assert len(bare) == ON_THE_HOST.get(path.name, 0), bare
