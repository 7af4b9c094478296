"""A number for each row of the lecture that draws no figure: a few lines that a reader can change.

The arguments are the settings: a row's exercise gives them other values.
"""

import math

import jax
import jax.numpy as jnp

from dlcore import backprop, data, generative, losses, networks, nn, optim, stats, train


def ignored_label(smoothing=0.0, ignore=-1):
    """Cross-entropy (nats) of three pixels, of which the last has the label −1."""
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]))
    labels = jnp.array([0, 1, -1])
    return {"loss": losses.softmax_cross_entropy(logits, labels, label_smoothing=smoothing, ignore=ignore)}


def outlier(far=100.0):
    """The best constant for 1, 2, 3 and an outlier, by squared and by absolute error, over a grid."""
    seen = jnp.array([1.0, 2.0, 3.0, far])
    constants = jnp.linspace(0.0, 30.0, 3001)
    guesses = jnp.broadcast_to(constants[:, None], (3001, 4))
    targets = jnp.broadcast_to(seen, guesses.shape)
    means = {"squared": losses.squared_error, "absolute": losses.absolute_error}
    return {name: constants[loss(guesses, targets).mean(1).argmin()] for name, loss in means.items()}


def posterior_mode(std=1.0):
    """MAP of the mean of N(μ, 1) from the samples 1, 2, 3 under the prior N(0, std²); the mean is 2."""
    found = stats.maximize_posterior(
        lambda params, x: -losses.gaussian_nll(jnp.broadcast_to(params["mean"], x.shape), x, 1.0),
        lambda params: stats.normal_log_prior(params, std),
        {"mean": jnp.array(0.0)},
        jnp.array([1.0, 2.0, 3.0]),
    )
    return {"μ": jax.tree.leaves(found)[0], "closed form": 6 / (3 + 1 / std**2)}


def rates(steps=100):
    """Learning rates of three schedules that start at 0.1, in the middle and at the end."""
    made = {
        "linear": optim.schedules.linear(0.1, steps, 0.01),
        "cosine": optim.schedules.cosine(0.1, steps),
        "inverse square root": optim.schedules.inverse_square_root(0.1, 10),
    }
    return {name: jnp.array([schedule(k) for k in (0, 50, 100)]) for name, schedule in made.items()}


def layers(widths=(16, 16)):
    """Parameters of a multi-layer perceptron from 64 numbers to 10."""
    params, _ = networks.MLP(widths, 10).init(jax.random.key(0), jnp.zeros((1, 64)))
    return {"parameters": train.count_params(params)}


def extremes(x=1e4):
    """Activations where the formula as it stands would overflow."""
    at = jnp.array([-x, x])
    return {"sigmoid": nn.sigmoid(at), "softplus": nn.softplus(at), "log-softmax": nn.log_softmax(at)}


def clipped(threshold=1.0):
    """A gradient (3, 4) of norm 5, clipped entry by entry and by its norm."""
    gradient = {"w": jnp.array([3.0, 4.0])}
    made = {"by value": optim.clip_by_value(threshold), "by norm": optim.clip_by_global_norm(threshold)}
    return {name: tx.update(gradient, tx.init(gradient))[0]["w"] for name, tx in made.items()}


def penalties(size=3.0):
    """Penalties of a dense layer whose weights and biases all are `size`: biases go free."""
    params = {"dense": {"kernel": jnp.full((3, 2), size), "bias": jnp.full(2, size)}}
    chosen = {"L1": losses.l1, "½ L2": losses.l2, "group lasso": losses.group_lasso}
    return {name: penalty(params) for name, penalty in chosen.items()}


def patience(most=2):
    """The step at which training stops whose validation losses are 3, 2, 1, 2, 2, 2, 2."""
    progress = train.Progress({}, {})
    for step, value in enumerate((3.0, 2.0, 1.0, 2.0, 2.0, 2.0, 2.0), 1):
        progress.judge(value, step, "min", patience=most)
        if progress.stopped_early:
            break
    return {"stopped at": step, "best": progress.best_step}


def average(decay=0.9):
    """The moving average of ten 1s from 0, beside 1 − decay¹⁰."""
    mean = jnp.array(0.0)
    for _ in range(10):
        mean = train.ema(mean, jnp.array(1.0), decay)
    return {"average": mean, "closed form": 1 - decay**10}


def shared(times=2):
    """The gradient of a kernel w = 3 that a network multiplies by `times` times: n w^(n−1)."""

    def forward(call, x):
        for _ in range(times):
            x = call("scale", x)
        return x

    model = nn.compose(forward, scale=nn.Dense(1, bias=False))
    params, state = model.init(jax.random.key(0), jnp.ones((1, 1)))
    params = jax.tree.map(lambda leaf: jnp.full_like(leaf, 3.0), params)
    gradient = jax.grad(lambda p: model.apply(p, state, jnp.ones((1, 1)))[0].sum())(params)
    return {"leaves": len(jax.tree.leaves(params)), "gradient": jax.tree.leaves(gradient)[0].item()}


def mixed(alpha=0.4):
    """Two images, black and white, mixed: the pixel has the value of the target."""
    images, targets = jnp.array([0.0, 1.0]).reshape(2, 1, 1, 1), jnp.eye(2)
    images, targets = data.mixup(jax.random.key(1), images, targets, alpha)
    return {"pixels": images.ravel(), "share of the second class": targets[:, 1]}


def tikhonov(std=0.5):
    """The loss of a linear model under noisy inputs: without noise, plus σ² ‖w‖²."""
    x, w = jnp.ones((100_000, 2)), jnp.array([1.0, 2.0])
    noisy = nn.add_noise(x, std, key=jax.random.key(0)) @ w
    return {"mean squared error": jnp.mean((noisy - x @ w) ** 2), "σ² ‖w‖²": std**2 * 5}


def connections(stride=1, padding="zero"):
    """A 3×3 convolution on 8×8 pixels, beside the dense layer that it is."""
    counts = nn.count_connections((3, 3), (1, 4), (8, 8), stride=stride, padding=padding)
    return {name: int(value) for name, value in counts._asdict().items()}


def pooled(size=2):
    """Five numbers in `size` bins, by their maxima and means."""
    x = jnp.array([1.0, 5.0, 2.0, 4.0, 3.0]).reshape(1, 5, 1)
    made = {"maxima": nn.adaptive_max_pool, "means": nn.adaptive_avg_pool}
    return {name: pool(x, size).ravel() for name, pool in made.items()}


def normalised(offset=10.0):
    """Mean and standard deviation of channels before and after normalisation of one example."""
    x = offset + 3 * jax.random.normal(jax.random.key(0), (1, 8, 8, 4))
    y = nn.group_norm(x, 2)
    return {"before": jnp.array([x.mean(), x.std()]), "after": jnp.array([y.mean(), y.std()])}


def whole(points=101):
    """∫ of a standard normal density on a grid from −5 to 5, and of a table."""
    x = jnp.linspace(-5.0, 5.0, points)
    bell = stats.density.make_density(jnp.exp(-(x**2) / 2) / jnp.sqrt(2 * jnp.pi), (x,), ("x",))
    table = stats.table.make_table(jnp.array([[0.1, 0.2], [0.3, 0.4]]), ("a", "b"))
    return {"density": stats.density.integral(bell), "table": table.probabilities.sum()}


def marginals(together=0.4):
    """p(a) and p(b) of a table of two coins, of which `together` is the probability of two heads."""
    left = (1 - together) / 3
    table = stats.table.make_table(jnp.array([[together, left], [left, left]]), ("a", "b"))
    return {f"p({name})": stats.table.marginal(table, name).probabilities for name in ("a", "b")}


def diagnosis(prevalence=0.01, sensitivity=0.9, false_alarms=0.05):
    """p(ill | the test says so)."""
    prior = stats.table.make_table(jnp.array([1 - prevalence, prevalence]), ("ill",))
    posterior, evidence = stats.table.bayes(prior, jnp.array([false_alarms, sensitivity]))
    return {"p(ill | positive)": posterior.probabilities[1], "p(positive)": evidence}


def die(sides=6):
    """Mean, variance and standard deviation of a fair die."""
    moments = stats.pmf_moments(jnp.arange(1, sides + 1), jnp.full(sides, 1 / sides))
    return dict(moments._asdict())


def coin(p=0.5):
    """Entropy of a coin, and its divergences from a fair one, in bits."""
    coins = jnp.array([p, 1 - p]), jnp.array([0.5, 0.5])
    return {
        "H": stats.entropy(coins[0], "bits"),
        "KL": stats.kl(*coins, "bits"),
        "JS": stats.js(*coins, "bits"),
    }


def logistic_levels(levels=256):
    """The masses that a discretised logistic gives to all grey levels, added up."""
    one = {"logits": 0.0, "mean": 0.2, "log_scale": -2.0}
    params = {name: jnp.full((levels, 1), value) for name, value in one.items()}
    mass = jnp.exp(stats.mixture_log_mass(jnp.arange(levels), **params, levels=levels))
    return {"sum": mass.sum(), "most likely level": mass.argmax()}


def fitted(samples=1000):
    """N(2, 3²) from draws, by maximum likelihood: μ and σ in closed form."""
    draws = 2 + 3 * jax.random.normal(jax.random.key(0), (samples,))
    found = stats.fit_normal(draws)
    return {"μ": found["mean"], "σ": jnp.exp(found["log_scale"])}


def line(alpha=1.0):
    """The slope and intercept through (0, 1), (1, 3), (2, 5), and those that ridge draws towards 0."""
    matrix, target = jnp.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]), jnp.array([1.0, 3.0, 5.0])
    return {"least squares": optim.solve_qr(matrix, target), "ridge": optim.solve_ridge(matrix, target, alpha)}


def searched(counts=(21, 21)):
    """The least value of ‖x − (0.3, −0.3)‖² on a grid over [−1, 1]²."""
    method = optim.grid((-1.0, -1.0), (1.0, 1.0), counts)
    steps = math.prod(counts)
    found = optim.minimize(method, lambda x: jnp.sum((x - jnp.array([0.3, -0.3])) ** 2), jnp.zeros(2), steps=steps)
    return {"x": found.x, "f(x)": found.value}


def evolved(generations=150):
    """CMA-ES on Rosenbrock's function in four dimensions, whose minimum 0 is at (1, 1, 1, 1)."""

    def f(x):
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    found = optim.minimize(optim.cma(0.3), f, jnp.zeros(4), key=jax.random.key(0), steps=generations)
    return {"x": found.x, "f(x)": found.value}


def newtons(curvature=100.0):
    """Steps that Newton and gradient descent take on a quadratic of curvatures 1 and `curvature`."""

    def f(x):
        return 0.5 * (x[0] ** 2 + curvature * x[1] ** 2)

    methods = {"Newton": optim.newton(), "descent": optim.gradient_descent(1 / curvature)}
    found = {name: optim.minimize(method, f, jnp.ones(2), steps=5000) for name, method in methods.items()}
    return {name: result.steps for name, result in found.items()}


def folded(depth=3):
    """Linear layers, and the one that they are: the largest difference of their outputs."""
    model, x = networks.MLP((8,) * (depth - 1), 2, activation="linear"), jnp.ones((1, 4))
    params, state = model.init(jax.random.key(0), x)
    one = networks.fold_linear(params)
    return {"layers": depth, "difference": abs(model.apply(params, state, x)[0] - nn.dense(x, **one)).max()}


def equal_networks(widths=(3,)):
    """How many parameter vectors compute the same function, for an odd activation and for ReLU."""
    return {"tanh": networks.count_symmetries(widths), "ReLU": networks.count_symmetries(widths, odd=False)}


def slopes(step=1e-3):
    """d/dx x³ at 2 by central differences, beside 12."""
    return {"difference": backprop.central_differences(lambda x: x**3, jnp.array(2.0), step), "exact": 12.0}


def jacobians(inputs=3):
    """The Jacobian of a dense layer with respect to its input is its kernel, transposed."""
    kernel = jnp.arange(2.0 * inputs).reshape(inputs, 2)
    params = {"kernel": kernel, "bias": jnp.zeros(2)}
    _, found = backprop.layer_jacobians(backprop.dense_pair(), params, jnp.ones((1, inputs)))
    return {"W": kernel, "∂y/∂x": found.x}


def thresholds(strength=1.0):
    """The proximal operators of L1 and of the group lasso on a weight matrix [2, 2]."""
    v = jnp.array([[3.0, 0.5], [-4.0, 0.5]])
    return {"L1": optim.soft_threshold(v, strength), "group lasso": optim.group_threshold(v, strength)}


def turned(group="p4"):
    """How far a group convolution and an ordinary one are from turning with their input, and the former in a mirror."""
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 1))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 2))
    turns, mirrors = nn.rotations(), nn.reflections()
    pooled = lambda x: nn.lift(x, kernel, group=group).max(-2)  # noqa: E731
    return {
        "convolution": nn.equivariance_error(lambda x: nn.conv(x, kernel), x, turns, turns),
        "over the group": nn.equivariance_error(pooled, x, turns, turns),
        "in a mirror": nn.equivariance_error(pooled, x, mirrors, mirrors),
    }


def signals(kernel=(1.0, 2.0, 3.0)):
    """(1, 0, 2) convolved and correlated with the kernel."""
    x, k = jnp.array([1.0, 0.0, 2.0]), jnp.array(kernel)
    return {"∗": nn.convolve(x, k), "⋆": nn.correlate(x, k), "by FFT": nn.fft_convolve(x, k)}


def adjoint(stride=2):
    """⟨A x, y⟩ and ⟨x, Aᵀ y⟩ of a strided convolution and its transpose."""
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = jax.random.normal(keys[0], (1, 8, 8, 1)), jax.random.normal(keys[1], (3, 3, 1, 2))
    there = nn.conv(x, kernel, stride=stride)
    y = jax.random.normal(keys[2], there.shape)
    back = nn.conv_transpose(y, kernel, stride=stride, space=(8, 8))
    return {"⟨A x, y⟩": jnp.vdot(there, y), "⟨x, Aᵀ y⟩": jnp.vdot(x, back)}


def published(names=("alexnet", "resnet50", "mobilenet_v2")):
    """Parameters at 1000 classes, as published; nothing is computed."""
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    made = {name: networks.network(name, 1000, 224) for name in names}
    shapes = {name: jax.eval_shape(model.init, jax.random.key(0), image)[0] for name, model in made.items()}
    return {name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) for name, params in shapes.items()}


def pixel_costs(value=0.5):
    """Nats of one pixel under three decoder likelihoods whose outputs are 0."""
    x = jnp.full((1, 1, 1, 1), value)
    families = {
        "Bernoulli": (generative.decoder.bernoulli(), 1),
        "Gaussian, σ = 1": (generative.decoder.gaussian(1.0), 1),
        "256 levels": (generative.decoder.categorical(256), 256),
    }
    return {name: family.nll(jnp.zeros((1, 1, 1, n)), x).item() for name, (family, n) in families.items()}


def relaxed(temperature=0.1):
    """Share of each class in 10,000 Gumbel-softmax draws of (0.2, 0.3, 0.5), and the mean of their largest entries."""
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.2, 0.3, 0.5])), (10_000, 3))
    draws = generative.vae.gumbel_softmax(jax.random.key(0), logits, temperature)
    return {"shares": jnp.eye(3)[draws.argmax(-1)].mean(0), "largest": draws.max(-1).mean()}


def couplings(log_scale=0.5):
    """A coupling that scales two numbers by e^s: its log-determinant is 2 s, and its inverse gives them back."""
    x = jnp.array([[1.0, -2.0]])
    y, log_det = generative.flow.affine_coupling(x, jnp.full_like(x, log_scale), jnp.ones_like(x))
    back, _ = generative.flow.affine_coupling(y - 1, jnp.full_like(x, -log_scale), jnp.zeros_like(x))
    return {"y": y, "log|det|": log_det, "back": back}


def round_trip(channels=4):
    """A permutation and a 1×1 convolution, there and back: the largest error, and the volume of a rotation."""
    reverse = generative.flow.Permutation(tuple(reversed(range(channels))))
    flow = generative.flow.chain(reverse=reverse, mix=generative.flow.InvertibleConv())
    x = jax.random.normal(jax.random.key(0), (1, 2, 2, channels))
    params = flow.init(jax.random.key(1), x)
    z, log_det = flow.forward(params, x)
    return {"error": abs(flow.inverse(params, z)[0] - x).max(), "log|det|": log_det}
