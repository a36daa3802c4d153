import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.config import S5Config
from minimax_ued.nets.recurrent.linear_recurrence import linear_recurrence
from minimax_ued.nets.recurrent.s5 import S5Core, S5Layer, hippo

T, B, P, H = 11, 3, 4, 6
ORDERS = ("sequential", "associative", "auto")


def as_complex(x):
    x = np.asarray(x, np.float64)
    return x[..., 0, :] + 1j * x[..., 1, :]


@pytest.fixture(scope="module")
def recurrence():
    rng = np.random.default_rng(0)
    a = 0.98 * np.exp(1j * rng.uniform(-3, 3, P)) * rng.uniform(0.5, 1, P)
    carry, drive = rng.normal(size=(B, 2, P)), rng.normal(size=(T, B, 2, P))
    resets = rng.random((T, B)) < 0.3
    resets[0], resets[-1], resets[:, 2] = [True, False, False], [False, True, False], False
    arrays = [jnp.asarray(x, jnp.float32) for x in (np.stack([a.real, a.imag]), carry, drive)]
    return *arrays, jnp.asarray(resets)


def loop(a, carry, drive, resets):
    """The recurrence one step after the other, differentiable."""
    states = []
    for d, reset in zip(drive, resets, strict=True):
        carry = jnp.where(reset[:, None, None], 0.0, carry)
        real = a[0] * carry[:, 0] - a[1] * carry[:, 1] + d[:, 0]
        carry = jnp.stack([real, a[0] * carry[:, 1] + a[1] * carry[:, 0] + d[:, 1]], axis=1)
        states.append(carry)
    return carry, jnp.stack(states)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("steps", [1, T])
def test_the_recurrence_equals_numpy_in_double_precision(recurrence, order, steps):
    a, carry, drive, resets = recurrence
    run = jax.jit(linear_recurrence, static_argnums=4)
    final, states = jax.device_get(run(a, carry, drive[:steps], resets[:steps], order))
    x, expected = as_complex(carry), []
    for t in range(steps):
        x = as_complex(a) * np.where(np.asarray(resets[t])[:, None], 0, x) + as_complex(drive[t])
        expected.append(x)
    np.testing.assert_allclose(as_complex(states), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(final, states[-1])


@pytest.fixture(scope="module")
def gradients(recurrence):
    """A function that gives the gradients of a loss of one way to run the recurrence."""
    a, carry, drive, resets = recurrence
    weights = np.random.default_rng(0).normal(size=drive.shape).astype(np.float32)

    def of(run):
        def loss(*inputs):
            final, states = run(*inputs, resets)
            return (weights * states**2).sum() + (final**3).sum()

        return jax.device_get(jax.jit(jax.grad(loss, (0, 1, 2)))(a, carry, drive))

    return of


@pytest.fixture(scope="module")
def automatic(gradients):
    return gradients(loop)


@pytest.mark.parametrize("order", ORDERS)
def test_its_gradients_equal_automatic_ones(gradients, automatic, order):
    ours, theirs = gradients(lambda *inputs: linear_recurrence(*inputs, order)), automatic
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(ours[1][0], 0)  # forgotten at once
    assert np.abs(ours[1][2]).max() > 0


@pytest.mark.slow
def test_the_recurrence_and_its_gradients_under_vmap(recurrence):
    a, carry, drive, resets = recurrence
    stacked = jnp.stack([a, 0.5 * a])
    grad = jax.grad(lambda a, run: (run(a, carry, drive, resets)[1] ** 2).sum())
    ours = jax.jit(jax.vmap(lambda a: grad(a, linear_recurrence)))(stacked)
    theirs = jax.jit(jax.vmap(lambda a: grad(a, loop)))(stacked)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [2, 8, 64])
def test_the_eigenvalues_are_those_of_the_normal_part_of_hippo(size):
    n = np.arange(size)
    matrix = np.array([[-np.sqrt((2 * i + 1) * (2 * k + 1)) if i > k else -(i + 1) * (i == k) for k in n] for i in n])
    normal = matrix + np.outer(np.sqrt(n + 0.5), np.sqrt(n + 0.5))
    eigenvalues, vectors = hippo(size)
    np.testing.assert_allclose(normal @ vectors, vectors * eigenvalues, atol=1e-9)
    everything = np.concatenate([eigenvalues, eigenvalues.conj()])
    expected = np.linalg.eigvals(normal)
    np.testing.assert_allclose(np.sort(everything.imag), np.sort(expected.imag), atol=1e-8)
    np.testing.assert_allclose(everything.real, -0.5, atol=1e-9)
    np.testing.assert_allclose(vectors.conj().T @ vectors, np.eye(size // 2), atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_layer_equals_its_formulas_in_double_precision(norm):
    config = S5Config(layers=1, state=2 * P, blocks=2, norm=norm)
    layer = S5Layer(H, config)
    rng = np.random.default_rng(1)
    u, carry = rng.normal(size=(T, B, H)), rng.normal(size=(B, 2, P))
    resets = rng.random((T, B)) < 0.2
    arguments = (jnp.asarray(carry, jnp.float32), jnp.asarray(u, jnp.float32), jnp.asarray(resets))
    variables = layer.init(jax.random.key(0), *arguments)
    variables["params"]["gate"]["bias"] += 0.3
    variables["params"]["norm"]["scale"] *= 1.5
    final, outputs = layer.apply(variables, *arguments)

    p = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])
    eigenvalues, step = p["Lambda_re"] + 1j * p["Lambda_im"], np.exp(p["log_step"])
    b, c = p["B"][0] + 1j * p["B"][1], p["C"][0] + 1j * p["C"][1]
    assert b.shape == (P, H)
    assert c.shape == (H, P)
    discrete = np.exp(eigenvalues * step)
    b = ((discrete - 1) / eigenvalues)[:, None] * b

    def normalise(x):
        x = x - x.mean(-1, keepdims=True)
        return p["norm"]["scale"] * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) + p["norm"]["bias"]

    def gelu(x):
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    x = carry[:, 0] + 1j * carry[:, 1]
    for t in range(T):
        inside = normalise(u[t]) if norm == "pre" else u[t]
        x = discrete * np.where(resets[t][:, None], 0, x) + inside @ b.T
        y = gelu(2 * (x @ c.T).real + p["D"] * inside)
        w = u[t] + y / (1 + np.exp(-(y @ p["gate"]["kernel"] + p["gate"]["bias"])))
        np.testing.assert_allclose(outputs[t], normalise(w) if norm == "post" else w, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(as_complex(final), x, rtol=2e-5, atol=2e-5)


@pytest.mark.slow
def test_initial_values_have_the_published_distributions():
    layer = S5Layer(64, S5Config(state=64, blocks=2))
    carry, u = jnp.zeros((1, 2, 32)), jnp.zeros((1, 1, 64))
    p = layer.init(jax.random.key(0), carry, u, jnp.zeros((1, 1), bool))["params"]
    eigenvalues, vectors = hippo(32)
    np.testing.assert_allclose(p["Lambda_re"], -0.5)
    np.testing.assert_allclose(p["Lambda_im"], np.tile(eigenvalues.imag, 2), rtol=1e-6)
    assert p["log_step"].shape == (32,)
    assert np.log(1e-3) <= p["log_step"].min() < np.log(1e-2) < p["log_step"].max() <= np.log(1e-1)
    # V V* projects on the half of the space that conjugation does not double: B = 2 Re(V B̃) is the real matrix drawn,
    # of variance 1 / fan-in.
    basis = np.kron(np.eye(2), vectors)
    b = 2 * (basis @ (np.asarray(p["B"][0]) + 1j * np.asarray(p["B"][1]))).real
    np.testing.assert_allclose(b.std(), 64**-0.5, rtol=0.05)
    # C̃ = C V with real and imaginary parts of C of variance 1 / (2P H): that of C̃ is twice as large, V being unitary.
    c = np.asarray(p["C"][0]) + 1j * np.asarray(p["C"][1])
    np.testing.assert_allclose(np.sqrt((np.abs(c) ** 2).mean()), np.sqrt(2) / 64, rtol=0.05)
    np.testing.assert_allclose(p["D"].std(), 1, rtol=0.3)


@pytest.mark.slow
def test_two_sequences_in_one_equal_the_two():
    core = S5Core(H, 5, S5Config(layers=2, state=8, blocks=1))
    u = jax.random.normal(jax.random.key(0), (T, B, 5))
    carry, resets = core.initial_carry(B), jnp.zeros((T, B), bool)
    variables = core.init(jax.random.key(1), carry, u, resets)
    run = jax.jit(core.apply)
    _, first = run(variables, carry, u[:5], resets[:5])
    final, second = run(variables, carry, u[5:], resets[5:])
    last, whole = run(variables, carry, u, resets.at[5].set(True))
    np.testing.assert_allclose(whole, jnp.concatenate([first, second]), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(last, final, rtol=1e-5, atol=1e-5)
    assert carry.shape == (B, 2, 2, 4)


def test_equals_the_package_of_its_authors(monkeypatch):
    # Runs where the repository lindermanlab/S5 is on the path; it names a type that jax has since removed.
    monkeypatch.setattr(jnp, "DeviceArray", jax.Array, raising=False)
    ssm = pytest.importorskip("s5.ssm", reason="lindermanlab/S5 is not on the path")
    u = jax.random.normal(jax.random.key(0), (T, H))
    layer = S5Layer(H, S5Config(layers=1, state=2 * P, blocks=1))
    carry, resets = jnp.zeros((1, 2, P)), jnp.zeros((T, 1), bool)
    variables = layer.init(jax.random.key(1), carry, u[:, None], resets)
    bound, p = layer.bind(variables), variables["params"]
    a, kernel = bound._discretise()
    eigenvalues, b = p["Lambda_re"] + 1j * p["Lambda_im"], p["B"][0] + 1j * p["B"][1]
    discrete, b = ssm.discretize_zoh(eigenvalues, b, jnp.exp(p["log_step"]))
    expected = ssm.apply_ssm(discrete, b, p["C"][0] + 1j * p["C"][1], u, True, False)
    _, states = linear_recurrence(a, carry, (u @ kernel).reshape(T, 1, 2, P), resets)
    ours = 2 * ((states[:, 0, 0] @ p["C"][0].T) - states[:, 0, 1] @ p["C"][1].T)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
