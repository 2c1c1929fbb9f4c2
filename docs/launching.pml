/* The protocol that launches a job exactly once, between `jobs`, the controllers, Kubernetes and the pods, as a model.
 * SPIN checks it in every interleaving.
 *
 *     Controller ──OpenLaunches, ConfirmLaunch, EndLaunch──▶ jobs ◀──StartLaunch, Heartbeat, SubmitResult── Pod
 *         └──list, create, delete──▶ Kubernetes ──starts and kills────────────────────────────────────────────┘
 *
 * The model has one job, two controllers of one cluster, and at most two pods at once. A transaction of `jobs` or a call
 * of the API server is one atomic step; between two steps any other may run. FAULTS faults happen, of any kind, anywhere:
 *   a controller dies and restarts, or stays dead             a request arrives late, twice, or its answer is lost
 *   a pod dies                                                a Kubernetes Job is deleted by hand
 *   the lease of a live pod expires                           a node is lost, and its pod keeps running unobserved
 *   a Kubernetes Job starts two pods                          a GPU becomes free at the last moment
 * These cost no fault: a controller acts on an outdated snapshot; the client cancels at any time; Kubernetes removes an
 * ended Job (its TTL); no GPU is ever free.
 *
 * Claims:
 *   1  one result: for each stage SubmitResult accepts the result of one pod only
 *   2  one launch, one pod: no two pods run for one launch, whose artifacts share one prefix (StartLaunch)
 *   3  a lost launch is lost: no launch ends as lost while its confirmed workload lives (EndLaunch)
 *   4  no retry without a cause: without a fault there is no second launch, except from GPU to CPU (OpenLaunches)
 *   5  a cancellation is proved: no pod of the launch that Kubernetes knows of runs (EndLaunch)
 *   6  every job ends: once the faults stop, the job and its launch end, and no workload is left (settled)
 *
 * Mutations: -DNO_FENCE (a lease proves nothing) breaks 1, -DNAME_AGAIN (the next launch repeats the number) breaks 2,
 * -DCONFIRM_FIRST (the confirmation precedes the creation) breaks 3.
 * The protocol does not promise two things. -DOF_ALL_LAUNCHES: claim 5 for pods of earlier launches, which may still run
 * without a lease. -DSILENT=true: claim 6 if no controller ever comes back.
 *
 * Left out: quick without deep, heartbeats that only renew, FailLaunch, backoff, capacity, several jobs. Each ending has
 * one retry, not one to five. A pod that dies by itself ends as `unknown`.
 *
 * Safety:   spin -a launching.pml && cc -O2 -DSAFETY -DNOCLAIM -o pan pan.c && ./pan -E -m1000000
 * Progress: spin -a launching.pml && cc -O2 -DNFAIR=3 -o pan pan.c && ./pan -E -a -f -m1000000
 * A trail:  spin -t -p -g launching.pml        (with the -D of the model as before)
 * -DCOLLAPSE halves the memory of a search and takes half as long again.
 *
 * Exhausted with one fault and a free GPU (-DFAULTS=1 -DGPU=1), in millions of states: safety for KIND 1 to 6 (0.3, 3.5,
 * 4.3, 6.4, 1.8, 0.3), each within 1 GiB and half a minute; progress for KIND 1, 5 and 6 (0.8, 3.7, 0.6), each within
 * 0.8 GiB and ten minutes. Never exhausted: progress for KIND 2, 3 and 4; two faults.
 * In a proctype, all instances would share a variable of a named mtype; hence `byte`.
 */
#ifndef FAULTS
#define FAULTS 1
#endif
/* KIND selects one kind of fault, for a machine without memory for all: 1 of a controller, 2 a request that arrives late
 * or twice, 3 of a pod, 4 of a node, 5 a deletion by hand or a GPU, 6 a lost answer. 0: all. */
#ifndef KIND
#define KIND 0
#endif
#define fault(kind) (faults && (KIND == 0 || KIND == kind))
/* Whether the first controller may stay dead, like the second. */
#ifndef SILENT
#define SILENT false
#endif
/* Claim 4 allows no more launches. */
#define LAUNCHES (FAULTS + 2)
#define NONE 0

/* ── services/jobs: one row, and its newest launch (an older launch has ended and is never read again) ───────────────*/

mtype:job_status = { QUEUED, QUICK_RUNNING, QUICK_DONE, DEEP_RUNNING, DONE, FAILED, CANCELLED };
mtype:stages = { QUICK, DEEP };
mtype:endings = { CANCELLED_ENDING, DISRUPTION, LEASE_LOST, UNKNOWN, UNSCHEDULABLE, DEADLINE };

mtype:job_status status = QUEUED;
bool quick_is_in, deep_is_in;      /* results_stage */
bool cancel_requested;             /* cancel_requested_at */
byte launch_count;

bool launched;                     /* the newest launch is open */
byte kubernetes_uid;               /* NONE until it is confirmed */
byte pod_uid;                      /* NONE until it is started */
byte lease;                        /* the number of the last lease, as its secret */
bool is_leased;                    /* the lease has not expired */
bool unschedulable;                /* an earlier launch got no GPU: the next is placed on the CPU */
bool tried[6];                     /* by ending: its one retry is used (retry_policy.py: 1 to 5) */

/* For claim 1: the pod whose result was accepted, by stage. */
byte author[3];

#define is_final (status == DONE || status == FAILED || status == CANCELLED)
#define is_newest(no) (no == launch_count)
#define is_open(no) (launched && is_newest(no))

/* ── Kubernetes: the Job under the name of each launch ───────────────────────────────────────────────────────────────*/

mtype:phases = { ABSENT, ACTIVE, DELETING, ENDED };

mtype:phases phase[LAUNCHES + 1] = ABSENT;
byte uid[LAUNCHES + 1];            /* of the newest Job of this name */
bool on_gpu[LAUNCHES + 1];
bool has_pod[LAUNCHES + 1];        /* the pod was scheduled */
bool is_stuck[LAUNCHES + 1];       /* the pod can never be scheduled */
mtype:endings classified[LAUNCHES + 1]; /* how its pod ended, as failure_classifier.py says; NONE before */
bool gpu_is_free;

#define is_live(no) (phase[no] == ACTIVE || phase[no] == DELETING)

mtype:doings = { IDLE, STARTING, IN_QUICK, TURNING, IN_DEEP };

mtype:doings doing[2] = IDLE;
byte pod_no[2];                    /* the pod's launch */
byte pod_of[2];                    /* the uid of its Kubernetes Job */
bool is_known[2];                  /* Kubernetes knows that the pod runs */
byte held[2];                      /* the pod's lease */

/* A launch after one without a GPU is created only when the previous Job no longer lives. */
#define waits(no) (unschedulable && no > 1 && is_live(no - 1))
#define finds_no_gpu(no) (phase[no] == ACTIVE && on_gpu[no] && !has_pod[no])
/* Kubernetes may never start a pod for a repeated name; the launch then ends by its deadline. */
#define never_moves(no) (phase[no] == ACTIVE && is_stuck[no])
/* The uid of a pod, which differs from that of every other pod of its launch. */
#define uid_of(pod) (2 * pod_of[pod] + pod)
#define belongs(pod, no) (doing[pod] != IDLE && is_known[pod] && pod_no[pod] == no && pod_of[pod] == uid[no])
#define has_none(no) (!belongs(0, no) && !belongs(1, no))
#define at_work(pod) (doing[pod] != IDLE && doing[pod] != STARTING)
#define works_for(pod, no) (belongs(pod, no) && at_work(pod))
#define works_for_too(pod, no, other) (at_work(pod) && pod_no[pod] == no && uid_of(pod) != other)
#define holder_lives(pod) (doing[pod] != IDLE && pod_no[pod] == launch_count && pod_uid == uid_of(pod))

byte faults = FAULTS;

/* ── The transactions of `jobs` ──────────────────────────────────────────────────────────────────────────────────────*/

mtype:replies = { OK, REFUSED, UNANSWERED };
mtype:replies reply = OK;

/* A queued row without an open launch gets one, under the next number. */
inline OpenLaunches() {
    if
    :: status == QUEUED && !launched ->
#ifdef NAME_AGAIN
        launch_count = 1;
#else
        launch_count++;
#endif
        assert(launch_count <= 1 + (FAULTS - faults) + unschedulable);   /* 4 */
        launched = true;
        kubernetes_uid = NONE; pod_uid = NONE; lease = NONE; is_leased = false
    :: else
    fi
}

/* Binds the workload's uid to the launch. */
inline ConfirmLaunch(no, of_uid) {
    if
    :: is_open(no) && (kubernetes_uid == NONE || kubernetes_uid == of_uid) -> kubernetes_uid = of_uid; reply = OK
    :: else -> reply = REFUSED
    fi
}

/* Ends the launch, and moves the job by retry_policy.py. `of_uid`: the uid that the caller observed, for claim 3. */
inline EndLaunch(no, ending, of_uid) {
    reply = OK;
    if
    :: !is_open(no)
    :: is_open(no) && cancel_requested != (ending == CANCELLED_ENDING) -> reply = REFUSED
    :: else ->
        assert(!((ending == DISRUPTION || ending == UNKNOWN) && is_live(no) && uid[no] == of_uid));   /* 3 */
        launched = false;
        if
        :: cancel_requested ->
#ifdef OF_ALL_LAUNCHES
            assert(!(at_work(0) && is_known[0]) && !(at_work(1) && is_known[1]));
#endif
            assert(!works_for(0, no) && !works_for(1, no));   /* 5 */
            status = CANCELLED
        :: !cancel_requested && ending == UNSCHEDULABLE -> status = QUEUED; unschedulable = true
        :: !cancel_requested && (ending == DEADLINE || tried[ending - 1]) -> status = FAILED
        :: else -> status = QUEUED; tried[ending - 1] = true
        fi;
        kubernetes_uid = NONE; pod_uid = NONE; is_leased = false
    fi
}

/* The first pod gets the launch, and a fresh lease at each call. */
inline StartLaunch(no, pod_uid_) {
    if
    :: is_open(no) && !cancel_requested && (pod_uid == NONE || pod_uid == pod_uid_) ->
        assert(!works_for_too(0, no, pod_uid_) && !works_for_too(1, no, pod_uid_));   /* 2 */
        pod_uid = pod_uid_;
        lease++; is_leased = true;
        if
        :: status == QUEUED && quick_is_in -> status = DEEP_RUNNING
        :: status == QUEUED && !quick_is_in -> status = QUICK_RUNNING
        :: else
        fi;
        reply = OK
    :: else -> reply = REFUSED
    fi
}

/* The fence: a write needs the live lease of an open launch that is not being cancelled. */
#ifdef NO_FENCE
#define holds(no, secret) (status != QUEUED && !is_final)
#define held_last(no, secret) true
#else
#define holds(no, secret) \
    (is_open(no) && is_leased && lease == secret && !cancel_requested && status != QUEUED && !is_final)
/* The result was accepted before, and only the answer was lost. */
#define held_last(no, secret) \
    (is_newest(no) && lease == secret && !cancel_requested && (launched || status == DONE))
#endif

/* Reports the start of the deep stage, too. The renewal of the lease is part of World. */
inline Heartbeat(no, secret) {
    if
    :: holds(no, secret) ->
        reply = OK;
        if
        :: status == QUICK_DONE -> status = DEEP_RUNNING
        :: else
        fi
    :: else -> reply = REFUSED
    fi
}

inline SubmitResult(no, secret, stage, who) {
    reply = OK;
    if
    :: held_last(no, secret) && (stage == QUICK && quick_is_in && !deep_is_in || stage == DEEP && deep_is_in)
    :: else ->
        if
        :: holds(no, secret) && stage == QUICK && status == QUICK_RUNNING ->
            status = QUICK_DONE; quick_is_in = true
        :: holds(no, secret) && stage == DEEP && (status == QUICK_DONE || status == DEEP_RUNNING) ->
            status = DONE; deep_is_in = true;
            launched = false; kubernetes_uid = NONE; pod_uid = NONE; is_leased = false
        :: else -> reply = REFUSED
        fi
    fi;
    if
    :: reply == OK ->
        assert(author[stage] == NONE || author[stage] == who);   /* 1 */
        author[stage] = who
    :: else
    fi
}

/* ── The calls of the API server ─────────────────────────────────────────────────────────────────────────────────────*/

/* "Already exists" is success. */
inline create(no) {
    reply = OK;
    if
    :: phase[no] == ABSENT ->
        phase[no] = ACTIVE; uid[no]++; has_pod[no] = false; classified[no] = NONE; on_gpu[no] = !unschedulable;
        is_stuck[no] = uid[no] > 1
    :: else
    fi
}

inline delete(no, of_uid) {
    reply = OK;
    if
    :: phase[no] == ACTIVE && uid[no] == of_uid -> phase[no] = DELETING
    :: else
    fi
}

/* ── The network: a request is answered, arrives late or twice, or its answer is lost ────────────────────────────────*/

mtype:requests = { CREATE, DELETE, CONFIRM_LAUNCH, END_LAUNCH, START_LAUNCH, HEARTBEAT, SUBMIT_RESULT };
mtype:fates = { ANSWERED, LATE, TWICE, LOST };

mtype:requests late;                /* the request in flight; NONE */
byte late_no, late_a, late_b, late_c;
mtype:fates fate = ANSWERED;

#define Call(request, no, a, b, c, effect) \
    if \
    :: fate = ANSWERED \
    :: fault(2) && late == NONE -> fate = LATE \
    :: fault(2) && late == NONE -> fate = TWICE \
    :: fault(6) -> fate = LOST \
    fi; \
    d_step { \
        if \
        :: fate != ANSWERED -> faults-- \
        :: else \
        fi; \
        if \
        :: fate == LATE || fate == TWICE -> late = request; late_no = no; late_a = a; late_b = b; late_c = c \
        :: else \
        fi; \
        if \
        :: fate != LATE -> effect \
        :: else \
        fi; \
        if \
        :: fate == LATE || fate == LOST -> reply = UNANSWERED \
        :: else \
        fi; \
        fate = ANSWERED \
    }

inline arrive() {
    d_step {
        if
        :: late == CREATE -> create(late_no)
        :: late == DELETE -> delete(late_no, late_a)
        :: late == CONFIRM_LAUNCH -> ConfirmLaunch(late_no, late_a)
        :: late == END_LAUNCH -> EndLaunch(late_no, late_a, late_b)
        :: late == START_LAUNCH -> StartLaunch(late_no, late_a)
        :: late == HEARTBEAT -> Heartbeat(late_no, late_a)
        :: late == SUBMIT_RESULT -> SubmitResult(late_no, late_a, late_b, late_c)
        fi;
        late = NONE; late_no = NONE; late_a = NONE; late_b = NONE; late_c = NONE; reply = OK
    }
}

/* ── services/controller: snapshot, decide, act; a crash clears the memory ───────────────────────────────────────────*/

mtype:actions = { DO_CREATE, DO_CONFIRM, DO_END, DO_DELETE };

/* The table of decide.py. It reads the workloads after the launches. */
inline decide() {
    if
    :: no == NONE
    :: no != NONE && cancelling ->
        if
        :: is_live(no) -> action = DO_DELETE; of_uid = uid[no]
        :: else -> action = DO_END; ending = CANCELLED_ENDING
        fi
    :: no != NONE && !cancelling ->
        if
        :: phase[no] == ABSENT && of_uid == NONE && !waits(no) -> action = DO_CREATE
        :: phase[no] == ABSENT && of_uid == NONE && waits(no)
        :: of_uid != NONE && (phase[no] == ABSENT || uid[no] != of_uid) -> action = DO_END; ending = DISRUPTION
        :: phase[no] == ENDED && (of_uid == NONE || uid[no] == of_uid) ->
            action = DO_END; ending = classified[no]; of_uid = uid[no]
        :: is_live(no) && (of_uid == NONE || uid[no] == of_uid) ->
            if
            :: finds_no_gpu(no) -> action = DO_END; ending = UNSCHEDULABLE
            :: never_moves(no) -> action = DO_END; ending = DEADLINE
            :: !finds_no_gpu(no) && !never_moves(no) && of_uid == NONE -> action = DO_CONFIRM; of_uid = uid[no]
            :: else
            fi
        fi
    fi;
    if
    :: action == NONE -> no = NONE; of_uid = NONE
    :: else
    fi;
    cancelling = false
}

inline forget() {
    no = NONE; of_uid = NONE; ending = NONE; action = NONE; cancelling = false; reply = OK
}

inline confirm() {
    Call(CONFIRM_LAUNCH, no, of_uid, 0, 0, ConfirmLaunch(no, of_uid)); forget()
}

#if LAUNCHES == 2
#define is_unwanted (is_live(1) || is_live(2))
#elif LAUNCHES == 3
#define is_unwanted (is_live(1) || is_live(2) || is_live(3))
#else
#define is_unwanted (is_live(1) || is_live(2) || is_live(3) || is_live(4))
#endif
/* A crash, while a fault is left. */
#define Crash :: atomic { fault(1) -> faults--; forget(); victim = NONE; victim_uid = NONE; goto crash }

proctype Controller(bool may_stay_dead) {
    byte no, of_uid, ending, action, victim, victim_uid, i;
    bool cancelling;

round:
    /* Reconciler._take_snapshot lists the workloads, the open launches, then the workloads again. The first two are one
     * step here: a workload that ends between them needs no deletion. A snapshot without actions is left out. */
    if
    :: d_step { launched || status == QUEUED || is_unwanted ->
        OpenLaunches();
        if
        :: launched -> no = launch_count; of_uid = kubernetes_uid; cancelling = cancel_requested
        :: else
        fi;
        for (i : 1 .. LAUNCHES) {
            if
            :: is_live(i) && i != no && victim == NONE -> victim = i; victim_uid = uid[i]
            :: else
            fi
        }
        i = 0 }
    Crash
    fi;
    if
    :: atomic {
        decide();
        if
        :: victim == NONE
        :: else -> Call(DELETE, victim, victim_uid, 0, 0, delete(victim, victim_uid))
        fi;
        victim = NONE; victim_uid = NONE; reply = OK }
    Crash
    fi;
    if
    :: action == NONE
    :: atomic { action == DO_DELETE -> Call(DELETE, no, of_uid, 0, 0, delete(no, of_uid)); forget() }
    :: atomic { action == DO_END -> Call(END_LAUNCH, no, ending, of_uid, 0, EndLaunch(no, ending, of_uid)); forget() }
    :: atomic { action == DO_CONFIRM -> confirm() }
#ifndef CONFIRM_FIRST
    :: atomic { action == DO_CREATE ->
        Call(CREATE, no, 0, 0, 0, create(no));
        if
        :: reply == OK && is_live(no) -> of_uid = uid[no]; action = DO_CONFIRM; reply = OK
        :: else -> forget(); goto round
        fi }
    if
    :: atomic { confirm() }
    Crash
    fi
#else
    :: atomic { action == DO_CREATE ->
        of_uid = 1;
        Call(CONFIRM_LAUNCH, no, of_uid, 0, 0, ConfirmLaunch(no, of_uid));
        if
        :: reply == OK
        :: else -> forget(); goto round
        fi }
    if
    :: atomic { Call(CREATE, no, 0, 0, 0, create(no)); forget() }
    Crash
    fi
#endif
    Crash
    fi;
    goto round;

crash:
    if
    :: goto round
    :: may_stay_dead
    fi
}

/* ── services/analyzer: one pod. Any refusal ends it with exit code 75 ───────────────────────────────────────────────*/

inline exit(me, ending) {
    if
    :: belongs(me, pod_no[me]) && classified[pod_no[me]] == NONE -> classified[pod_no[me]] = ending
    :: else
    fi;
    doing[me] = IDLE;
    if
    :: is_known[me] && has_none(pod_no[me]) && phase[pod_no[me]] == ACTIVE && classified[pod_no[me]] != NONE ->
        phase[pod_no[me]] = ENDED
    :: else
    fi;
    pod_no[me] = NONE; pod_of[me] = NONE; is_known[me] = false; held[me] = NONE
}

inline go_on(me, to) {
    if
    :: reply == OK -> doing[me] = to
    :: reply == REFUSED -> exit(me, LEASE_LOST)
    :: reply == UNANSWERED
    fi;
    reply = OK
}

#define who(me) (8 * pod_no[me] + uid_of(me))

proctype Pod(byte me) {
    do
    :: atomic { doing[me] == STARTING ->
        Call(START_LAUNCH, pod_no[me], uid_of(me), 0, 0, StartLaunch(pod_no[me], uid_of(me)));
        if
        :: reply == OK -> held[me] = lease
        :: else
        fi;
        go_on(me, (quick_is_in -> TURNING : IN_QUICK)) }
    :: atomic { doing[me] == IN_QUICK ->
        Call(SUBMIT_RESULT, pod_no[me], held[me], QUICK, who(me), SubmitResult(pod_no[me], held[me], QUICK, who(me)));
        go_on(me, TURNING) }
    :: atomic { doing[me] == TURNING ->
        Call(HEARTBEAT, pod_no[me], held[me], 0, 0, Heartbeat(pod_no[me], held[me]));
        go_on(me, IN_DEEP) }
    :: atomic { doing[me] == IN_DEEP ->
        Call(SUBMIT_RESULT, pod_no[me], held[me], DEEP, who(me), SubmitResult(pod_no[me], held[me], DEEP, who(me)));
        if
        :: reply == OK -> exit(me, UNKNOWN)   /* Exit code 0, which ends an open launch as `unknown`: no result. */
        :: else -> go_on(me, IN_DEEP)
        fi }
    :: d_step { doing[me] != IDLE && fault(3) -> faults--; exit(me, UNKNOWN) }
    od
}

/* ── Kubernetes' own steps ───────────────────────────────────────────────────────────────────────────────────────────*/

inline start_pod(pod, no) {
    doing[pod] = STARTING; pod_no[pod] = no; pod_of[pod] = uid[no]; is_known[pod] = true; has_pod[no] = true
}

#define may_run(no) (phase[no] == ACTIVE && classified[no] == NONE && !is_stuck[no])

#define Kubernetes_of(no) \
    :: d_step { may_run(no) && !has_pod[no] && (!on_gpu[no] || gpu_is_free) && doing[0] == IDLE -> start_pod(0, no) } \
    :: d_step { may_run(no) && !has_pod[no] && (!on_gpu[no] || gpu_is_free) && doing[0] != IDLE && doing[1] == IDLE -> \
        start_pod(1, no) } \
    :: d_step { belongs(0, no) && (phase[no] == DELETING || classified[no] != NONE) -> exit(0, DISRUPTION) } \
    :: d_step { belongs(1, no) && (phase[no] == DELETING || classified[no] != NONE) -> exit(1, DISRUPTION) } \
    :: d_step { phase[no] == DELETING && has_none(no) -> vanish(no) } \
    :: d_step { phase[no] == ENDED -> vanish(no) }   /* ttlSecondsAfterFinished */ \
    :: d_step { fault(5) && phase[no] == ACTIVE -> faults--; phase[no] = DELETING }   /* deleted by hand */ \
    :: d_step { fault(4) && may_run(no) && has_pod[no] && doing[0] == IDLE && belongs(1, no) -> \
        faults--; start_pod(0, no) }   /* "the same program may sometimes be started twice" */ \
    :: d_step { fault(4) && may_run(no) && has_pod[no] && doing[1] == IDLE && belongs(0, no) -> \
        faults--; start_pod(1, no) } \
    :: d_step { fault(4) && belongs(0, no) -> faults--; lose_node(0) } \
    :: d_step { fault(4) && belongs(1, no) -> faults--; lose_node(1) }

inline vanish(no) {
    phase[no] = ABSENT; has_pod[no] = false; classified[no] = NONE; on_gpu[no] = false; is_stuck[no] = false
}

/* The pod keeps running; Kubernetes counts it as failed. */
inline lose_node(pod) {
    if
    :: classified[pod_no[pod]] == NONE -> classified[pod_no[pod]] = DISRUPTION
    :: else
    fi;
    is_known[pod] = false;
    if
    :: has_none(pod_no[pod]) && phase[pod_no[pod]] == ACTIVE -> phase[pod_no[pod]] = ENDED
    :: else
    fi
}

proctype Kubernetes() {
    do
    Kubernetes_of(1)
    Kubernetes_of(2)
#if LAUNCHES > 2
    Kubernetes_of(3)
#endif
#if LAUNCHES > 3
    Kubernetes_of(4)
#endif
#if LAUNCHES > 4
    Kubernetes_of(5)
#endif
    od
}

/* ── Time, the client, and the requests in flight ────────────────────────────────────────────────────────────────────*/

proctype World() {
    bool client_may_cancel = true;

    do
    /* A lease expires: always that of a dead pod. background/expiry.py ends its launch, unless it is being cancelled. */
    :: d_step { launched && is_leased && !holder_lives(0) && !holder_lives(1) -> is_leased = false }
    :: d_step { launched && is_leased && (holder_lives(0) || holder_lives(1)) && fault(3) -> faults--; is_leased = false }
    :: d_step { launched && lease != NONE && !is_leased && !cancel_requested ->
        EndLaunch(launch_count, LEASE_LOST, NONE); reply = OK }

    /* CancelJob; or the client never calls it. */
    :: d_step { client_may_cancel ->
        client_may_cancel = false;
        if
        :: is_final
        :: !is_final && !launched -> status = CANCELLED; cancel_requested = true
        :: !is_final && launched -> cancel_requested = true
        fi }
    :: d_step { client_may_cancel -> client_may_cancel = false }

    :: atomic { late != NONE -> arrive() }
    :: d_step { fault(5) && !gpu_is_free -> faults--; gpu_is_free = true }
    :: d_step { faults -> faults = 0 }
    od
}

init {
    atomic {
#ifdef GPU
        gpu_is_free = GPU;
#else
        if
        :: gpu_is_free = true
        :: skip
        fi;
#endif
        run Controller(SILENT); run Controller(true); run Pod(0); run Pod(1); run Kubernetes(); run World()
    }
}

/* 6 */
ltl settled { <>[] (is_final && !launched && !is_live(1) && !is_live(2)
#if LAUNCHES > 2
    && !is_live(3)
#endif
#if LAUNCHES > 3
    && !is_live(4)
#endif
) }
