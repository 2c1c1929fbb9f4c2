"""Lists every number that the analyzer measures: one `MetricSpec` each, in the order of results.json.

To add a number: its words, unit and direction in `services/rules/numbers.py`, its entry here, its motion in
`testing/data/motions.py`, its row in `bench/accuracy_motions.py`, its entry in `docs/metrics.md`. A score also needs
its scale and fault in each `knowledge/*.yaml`, and its key in `docs/results.schema.json`. `test_registry.py` checks
these.
"""

from functools import cache

from services.analyzer.biomechanics.foot_contact import Missing
from services.analyzer.biomechanics.metrics import along_pitch, scored, unscored
from services.analyzer.biomechanics.model import (
    AnnotationKind,
    AnnotationSpec,
    CurveSpec,
    MetricSpec,
    WorstMomentSpec,
)
from services.analyzer.knowledge.loader import Guidance, GuidanceError, load_guidance
from services.naming import Discipline
from services.rules.numbers import Better

# How far these numbers lie apart among players. An error of half of that says nothing of a player.
EXTENSION_RANGE_DEG, KNEE_CHANGE_RANGE_DEG, TREND_RANGE = 30.0, 40.0, 1.0
# How far the pose model puts a number off the rigs of the rendered batter and of the rendered films, in bodies: the
# elbow by 0.008 to 0.073 in eight films (root mean square 0.051), the trunk over the feet by 0.003 to 0.009 in six
# (0.006). All are films of one body in which the elbow is too low.
ELBOW_BIAS, BALANCE_BIAS = 0.05, 0.006
BOWLING_ONLY, BATTING_ONLY = frozenset({Discipline.BOWLING}), frozenset({Discipline.BATTING})
TIMING_REASON = "hip and shoulder rotation cannot be separated to 0.03 s from one camera with this pose model"

HEAD_STABILITY = MetricSpec(
    name="head_stability_score",
    read=scored.head_stability,
    curve=CurveSpec(2, "Head off its mean place over the feet", "body lengths", 0.1),
    annotation=AnnotationSpec(AnnotationKind.RING, "head {} off its mean place"),
    worst_moment=WorstMomentSpec(3, "Head farthest off"),
)
BALANCE_DRIFT = MetricSpec(
    name="balance_drift_score",
    read=scored.balance_drift,
    curve=CurveSpec(3, "Balance: trunk off its mean place over the feet", "body lengths", 0.1),
    annotation=AnnotationSpec(AnnotationKind.RING, "balance: trunk {} off its mean place"),
    worst_moment=WorstMomentSpec(4, "Balance: trunk farthest off"),
    bias=BALANCE_BIAS,
)
FRONT_KNEE_BRACE = MetricSpec(
    name="front_knee_brace_score",
    read=scored.front_knee_brace,
    curve=CurveSpec(1, "Front knee", "degrees; 180 is straight", 30.0, compared=True),
    annotation=AnnotationSpec(AnnotationKind.ANGLE, "front knee {}"),
    worst_moment=WorstMomentSpec(1, "Front knee at its smallest"),
    single_moment=True,
)
HIP_SHOULDER_TIMING = MetricSpec(
    name="hip_shoulder_separation_timing",
    read=lambda _: Missing(TIMING_REASON),
    absent_reason=TIMING_REASON,
)
ELBOW_DROP = MetricSpec(
    name="elbow_drop_score",
    read=scored.elbow_drop,
    curve=CurveSpec(4, "Elbow below the shoulder", "body lengths", 0.1),
    annotation=AnnotationSpec(AnnotationKind.DROP, "elbow {} under the shoulder"),
    worst_moment=WorstMomentSpec(2, "Elbow at its lowest"),
    bias=ELBOW_BIAS,
)
STRIDE_LENGTH = MetricSpec(
    name="stride_length",
    read=unscored.stride_length,
    annotation=AnnotationSpec(AnnotationKind.STRIDE, "stride {}"),
    single_moment=True,
)
RUN_UP_SPEED_TREND = MetricSpec(
    name="run_up_speed_trend",
    read=unscored.run_up_speed_trend,
    disciplines=BOWLING_ONLY,
    useful_error=TREND_RANGE / 2,
)
RELEASE_HEIGHT = MetricSpec(
    name="release_height",
    read=unscored.release_height,
    disciplines=BOWLING_ONLY,
)
TRUNK_LATERAL_FLEXION = MetricSpec(
    name="trunk_lateral_flexion_at_release",
    read=unscored.trunk_lateral_flexion,
    disciplines=BOWLING_ONLY,
    annotation=AnnotationSpec(AnnotationKind.LEAN, "trunk lean {}"),
    single_moment=True,
)
FRONT_KNEE_AT_CONTACT = MetricSpec(
    name="front_knee_at_contact",
    read=unscored.front_knee_at_contact,
    annotation=AnnotationSpec(AnnotationKind.ANGLE, "front knee at contact {}"),
    single_moment=True,
)
FRONT_KNEE_AT_RELEASE = MetricSpec(
    name="front_knee_at_release",
    read=unscored.front_knee_at_release,
    annotation=AnnotationSpec(AnnotationKind.ANGLE, "front knee at the end {}"),
    single_moment=True,
)
FRONT_KNEE_CHANGE = MetricSpec(
    name="front_knee_change",
    read=unscored.front_knee_change,
    single_moment=True,
    useful_error=KNEE_CHANGE_RANGE_DEG / 2,
)
BOWLING_ELBOW_EXTENSION = MetricSpec(
    name="bowling_elbow_extension",
    read=unscored.elbow_extension,
    disciplines=BOWLING_ONLY,
    useful_error=EXTENSION_RANGE_DEG / 2,
)

HEAD_OVER_FEET = MetricSpec(
    name="head_over_feet",
    read=along_pitch.head_over_feet,
    disciplines=BATTING_ONLY,
    single_moment=True,
)
HEAD_HEIGHT = MetricSpec(name="head_height", read=along_pitch.head_height, disciplines=BATTING_ONLY, single_moment=True)
BASE_WIDTH = MetricSpec(name="base_width", read=along_pitch.base_width, disciplines=BATTING_ONLY, single_moment=True)
STROKE_TRUNK_LEAN = MetricSpec(
    name="stroke_trunk_lean",
    read=along_pitch.trunk_lean,
    disciplines=BATTING_ONLY,
    annotation=AnnotationSpec(AnnotationKind.LEAN, "lean in the stroke {}"),
    single_moment=True,
)
HANDS_PATH_WIDTH = MetricSpec(name="hands_path_width", read=along_pitch.hands_path_width, disciplines=BATTING_ONLY)
DOWNSWING_TIME = MetricSpec(name="downswing_time", read=along_pitch.downswing_time, disciplines=BATTING_ONLY)

# The key `metrics` of results.json.
METRICS = (HEAD_STABILITY, BALANCE_DRIFT, FRONT_KNEE_BRACE, HIP_SHOULDER_TIMING, ELBOW_DROP)
# The key `measures`: numbers without a score.
MEASURES = (
    STRIDE_LENGTH,
    RUN_UP_SPEED_TREND,
    RELEASE_HEIGHT,
    TRUNK_LATERAL_FLEXION,
    FRONT_KNEE_AT_CONTACT,
    FRONT_KNEE_AT_RELEASE,
    FRONT_KNEE_CHANGE,
    BOWLING_ELBOW_EXTENSION,
    HEAD_OVER_FEET,
    HEAD_HEIGHT,
    BASE_WIDTH,
    STROKE_TRUNK_LEAN,
    HANDS_PATH_WIDTH,
    DOWNSWING_TIME,
)
SPECS = {spec.name: spec for spec in METRICS + MEASURES}


@cache
def guidance(discipline: str) -> Guidance:
    """The guidance of a discipline, checked against the registry.

    Raises GuidanceError for an unknown discipline, an invalid file, or a scale in the wrong direction.
    """
    guide = load_guidance(discipline, [spec.name for spec in METRICS])
    for name, scale in guide.scales.items():
        if scale.rises != (SPECS[name].better is Better.HIGHER):
            raise GuidanceError(
                f"{discipline}.yaml: scales.{name}: {SPECS[name].better.value} values must score better"
            )
    return guide
