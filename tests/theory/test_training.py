"""The loops of all trainings, against loops in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alphacl_jax.theory.training import begin, descend, train, train_with_looks, trajectory


def doubled(state):
    return 2 * state, state + 0.5


def test_a_trajectory_is_seen_from_its_start_to_its_end():
    last, seen = trajectory(doubled, jnp.asarray(1.0), 6)
    assert last == 64
    np.testing.assert_array_equal(seen, 2.0 ** np.arange(7) + 0.5)
    last, seen = trajectory(doubled, jnp.asarray(1.0), 6, every=3)
    assert last == 64
    np.testing.assert_array_equal(seen, [1.5, 8.5, 64.5])


def noisy(state, key):
    noise = jax.random.normal(key)
    return state + noise, noise


def test_steps_have_keys_of_their_own():
    key = jax.random.key(3)
    last, numbers = train(noisy, jnp.asarray(0.0), key, 4)
    expected = [jax.random.normal(k) for k in jax.random.split(key, 4)]
    np.testing.assert_allclose(numbers, expected, rtol=1e-6)
    np.testing.assert_allclose(last, sum(expected), rtol=1e-6)


def test_looks_are_taken_before_each_stretch_and_cost_no_step():
    key = jax.random.key(4)

    def look(state, key, numbers):
        return state, jax.random.uniform(key), numbers

    states, draws, numbers = train_with_looks(look, noisy, jnp.asarray(0.0), key, steps=6, every=2)
    state = 0.0
    for i, key_of_stretch in enumerate(jax.random.split(key, 3)):
        key_look, key_steps = jax.random.split(key_of_stretch)
        np.testing.assert_allclose(states[i], state, rtol=1e-6)
        np.testing.assert_allclose(draws[i], jax.random.uniform(key_look), rtol=1e-6)
        noise = [jax.random.normal(k) for k in jax.random.split(key_steps, 2)]
        np.testing.assert_allclose(numbers[i], noise, rtol=1e-6)
        state += sum(noise)


def test_a_step_is_the_optimisers_and_takes_a_gradient_that_is_put_together():
    optimizer = optax.sgd(0.5, momentum=0.9)

    def value_and_gradient(params, data):
        return jnp.sum(params * data), 2 * data  # twice the gradient, on purpose

    state = begin(optimizer, jnp.asarray([1.0, 2.0]))
    data = jnp.asarray([0.5, -1.0])
    state, loss = descend(optimizer, value_and_gradient, state, data)
    assert loss == -1.5
    np.testing.assert_allclose(state.params, [0.5, 3.0])
    state, _ = descend(optimizer, value_and_gradient, state, data)
    np.testing.assert_allclose(state.params, [0.5 - 0.95, 3.0 + 1.9], rtol=1e-6)
