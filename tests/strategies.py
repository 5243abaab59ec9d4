"""What hypothesis draws in several tests."""

from hypothesis import strategies as st

from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import RULES

# Of FinishSettings.
finish_rules = st.fixed_dictionaries(
    {
        "rule": st.sampled_from(list(RULES)),
        "k2": st.integers(1, 12),
        "k3": st.integers(1, 8),
        "trust": st.sampled_from([0.0, 0.3, 1.0]),
        "batch": st.integers(1, 5),
        "start": st.integers(1, 10),
        "largest": st.integers(1, 3),
        "per_cluster": st.integers(1, 3),
    }
)

cluster_rules = st.builds(
    ClusterSettings,
    tau=st.sampled_from([0.25, 0.5, 0.75]),
    k=st.integers(1, 6),
    k1=st.integers(1, 4),
    overflow=st.sampled_from(["join", "drop"]),
    similarity=st.sampled_from(["p_same", "verdict"]),
    assign=st.sampled_from(["best", "first", "largest"]),
    seed=st.integers(0, 3),
)
