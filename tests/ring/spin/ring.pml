/* The ring's protocol with death as a state: claim, write, publish, abandon, evict, acquire, undraw, release, reap, join.
 *
 * Every shared-memory access is one step; a compare-and-swap is one step that compares the whole word. A process may die before
 * any step; what it held stays held until a reaper takes the row, sweeps and frees it; then a newcomer joins under the same id.
 * Reapers die as well. Each MUTANT breaks one rule and must be caught. */

#ifndef K
#define K 2
#endif
#ifndef WRITES
#define WRITES 2            /* trajectories that are begun */
#endif
#ifndef READS
#define READS 2             /* draws that each reader tries */
#endif
#ifndef DEATHS
#define DEATHS 1            /* of writers and readers; one reaper may die besides */
#endif

#define ROWS    3           /* row 0 writes, rows 1 and 2 read */
#define REAPERS 2

#define FREE    0
#define WRITING 1
#define READY   2

#define LIVE    1           /* of a row; FREE as above */
#define REAPING 2

/* The control word of the slot. The protocol never relates two slots, so one is all there is to check. */
byte state, remaining, version, holders;
/* Two halves of a payload, written one after the other: a mixture is a torn trajectory. */
byte first, second;
/* The participants table. */
byte row[ROWS], row_reaper[ROWS];
bool alive[ROWS], reaper_alive[REAPERS];

/* Ghosts: what the properties speak of; no process decides by them, except that deaths are bounded. */
byte deaths, finished, published, reads;
bool evicted;

#define SAME    (state == w_state && remaining == w_remaining && version == w_version && holders == w_holders)
#ifdef MUTANT_COUNT
#define HOLD(i)   holders++                               /* a plain count: whom it counts, nobody can tell */
#define LET_GO(i) holders--
#define HELD(h, i) ((h) > 0)
#else
#define BIT(i)    (1 << (i))
#define HOLD(i)   holders = holders | BIT(i)
#define LET_GO(i) holders = holders & (255 - BIT(i))
#define HELD(h, i) ((h) & BIT(i))
#endif
#define LOAD    d_step { w_state = state; w_remaining = remaining; w_version = version; w_holders = holders }
#define FORGET  atomic { w_state = 0; w_remaining = 0; w_version = 0; w_holders = 0 }
/* One step of the protocol, or death before it. */
#define STEP(x) if :: DIE :: x fi
#define DIE     atomic { deaths < DEATHS -> deaths++; alive[id] = false; goto dead }

/* The word after `who` let go; the last one out of a used-up slot frees it. */
inline DROP(who) {
    LET_GO(who);
    if
    :: remaining == 0 && holders == 0 ->
        state = FREE;
        assert(deaths > 0 || reads == K)           /* exactly K when nobody dies */
    :: else
    fi
}

proctype Writer(byte id) {
    byte round, w_state, w_remaining, w_version, w_holders;

join:
    atomic { row[id] == FREE -> row[id] = LIVE; alive[id] = true };
    do
    :: round < WRITES ->
        atomic { round++; FORGET };
        STEP(LOAD);
        atomic {
            if
            :: deaths < DEATHS -> deaths++; alive[id] = false; goto dead
            :: SAME && w_state == FREE ->
                state = WRITING; version++; holders = id
            :: SAME && w_state == READY && w_holders == 0 ->
                evicted = true;
                state = WRITING; version++; holders = id; remaining = 0
            :: else -> goto next                          /* lost the race, or nothing to claim: as good as a time-out */
            fi;
            FORGET;
            w_version = version;
            first = 0;
            second = 0
        }
#ifdef MUTANT_PUBLISH_FIRST
        d_step { state = READY; remaining = K; holders = 0; published = version; reads = 0 }
        first = w_version;
        second = w_version;
        goto next;
#endif
        STEP(d_step { assert(state == WRITING && holders == id && version == w_version); first = w_version });
        STEP(d_step { assert(state == WRITING && holders == id && version == w_version); second = w_version });
        if
        :: DIE
        :: d_step {
                assert(state == WRITING && holders == id && version == w_version);      /* never stale while we live */
                state = READY; remaining = K; holders = 0; published = w_version; reads = 0
           }
        :: d_step {
                assert(state == WRITING && holders == id && version == w_version);
                state = FREE; holders = 0                 /* abandon */
           }
        fi;
next:
        FORGET
    :: else -> break
    od;
    goto leave;
dead:
    atomic { row[id] == FREE -> FORGET };                 /* until it was reaped; then somebody new may join */
    if
    :: round < WRITES -> goto join
    :: else
    fi;
    goto done;
leave:
    row[id] = FREE;                                       /* holds nothing by now */
done:
    finished++
}

proctype Reader(byte id) {
    byte round, seen, w_state, w_remaining, w_version, w_holders;

join:
    atomic { row[id] == FREE -> row[id] = LIVE; alive[id] = true };
    do
    :: round < READS ->
        round++;
        STEP(LOAD);
        if
        :: w_state != READY || w_remaining == 0 -> goto next
        :: else
        fi;
#ifdef MUTANT_CHECK_THEN_DECREMENT
        d_step { remaining--; HOLD(id); reads++; assert(reads <= K) }
#else
        atomic {
            if
            :: deaths < DEATHS -> deaths++; alive[id] = false; goto dead
            :: SAME -> remaining--; HOLD(id); reads++; assert(reads <= K)
            :: else -> goto next
            fi
        }
#endif
        if
        :: DIE
        :: d_step { assert(state == READY && first == published); seen = first }        /* hands the draw out and reads */
            STEP(d_step { assert(state == READY && second == seen) });
            do
            :: LOAD;
                atomic {
                    if
                    :: deaths < DEATHS -> deaths++; alive[id] = false; goto dead
                    :: SAME -> assert(state == READY && HELD(w_holders, id)); DROP(id); break
                    :: else                               /* somebody else made progress: again */
                    fi
                }
            od
        :: LOAD;                                          /* the batch did not fill: gives the draw back */
            do
            :: atomic {
                    if
                    :: deaths < DEATHS -> deaths++; alive[id] = false; goto dead
                    :: SAME ->
                        assert(state == READY && HELD(w_holders, id));
                        remaining++; LET_GO(id); reads--;
                        break
                    :: else
                    fi
                };
                LOAD
            od
        fi;
next:
        atomic { seen = 0; FORGET }
    :: else -> break
    od;
    goto leave;
dead:
    atomic { row[id] == FREE -> seen = 0; FORGET };
    if
    :: round < READS -> goto join
    :: else
    fi;
    goto done;
leave:
    row[id] = FREE;
done:
    finished++
}

/* A row whose participant is provably dead, or whose reaper died at it. */
#define PROVEN(i)  ((row[i] == LIVE && !alive[i]) || (row[i] == REAPING && !reaper_alive[row_reaper[i]]))

#ifdef MUTANT_TIME_OUT
#define MAY_REAP(i) (PROVEN(i) || row[i] == LIVE)         /* silent for long: taken for dead */
#else
#define MAY_REAP(i) PROVEN(i)
#endif

#ifdef MUTANT_SWEEP_WITHOUT_ROW
#define TAKE(i)     skip                                  /* proven once, and then swept at leisure */
#define GIVE(i)     row[i] = FREE
#else
#define TAKE(i)     row[i] = REAPING; row_reaper[i] = me
#define GIVE(i)     assert(row[i] == REAPING && row_reaper[i] == me); row[i] = FREE
#endif
#ifdef MUTANT_ROW_FIRST
#undef GIVE
#define GIVE(i)     skip
#endif

proctype Reaper(byte me) {
    byte i, w_state, w_remaining, w_version, w_holders;

    do
    :: finished == ROWS && !PROVEN(0) && !PROVEN(1) && !PROVEN(2) -> break
    :: atomic { MAY_REAP(0) -> i = 0; TAKE(0) }; goto sweep
    :: atomic { MAY_REAP(1) -> i = 1; TAKE(1) }; goto sweep
    :: atomic { MAY_REAP(2) -> i = 2; TAKE(2) };
sweep:
#ifdef MUTANT_ROW_FIRST
        row[i] = FREE;
#endif
        do
        :: LOAD;
            if
            :: d_step { reaper_alive[1 - me] -> reaper_alive[me] = false }; goto dead
            :: w_state == WRITING && w_holders == i ->
                atomic {
                    if
                    :: SAME -> state = FREE; holders = 0; break
                    :: else
                    fi
                }
            :: w_state == READY && HELD(w_holders, i) ->
                atomic {
                    if
                    :: SAME -> DROP(i); break
                    :: else                               /* a reader came or went: again */
                    fi
                }
            :: !(w_state == WRITING && w_holders == i) && !(w_state == READY && HELD(w_holders, i)) -> break
            fi
        od;
        atomic { GIVE(i); i = 0; FORGET }
    od;
dead:
    skip
}

init {
    atomic {
        reaper_alive[0] = true;
        reaper_alive[1] = true;
        run Writer(0);
        run Reader(1);
        run Reader(2);
        run Reaper(0);
        run Reaper(1)
    }
    /* Everybody is through: nothing may be left in the hands of the dead. */
    _nr_pr == 1;
    assert(row[0] == FREE && row[1] == FREE && row[2] == FREE);
    assert(holders == 0 && (state == FREE || (state == READY && remaining > 0)));
    assert(state == FREE || deaths > 0 || reads + remaining == K)
}
