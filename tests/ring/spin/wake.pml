/* Hints and sleeping: no item is overlooked and nobody sleeps through a publication, with no time-out to help.
 *
 * One slot is filled four times; three takers empty it once each, or give up. A taker looks where the hint says; failing that it
 * reads the event, raises the flag, looks at the word itself, and sleeps only if the event is still the same. Nobody dies here:
 * what a death costs (a hint, a wake) is repaired by reaping and by the longest sleep of a waiter. A taker asleep for ever is an
 * invalid end state; an item left over must be hinted at. */

#define TAKERS 3

bool ready, hint, flag, asleep[TAKERS];
byte event;

proctype Filler(byte items) {
    bool wake;

    do
    :: items > 0 ->
        items--;
end_full:
        atomic { !ready -> ready = true };                 /* the publishing swap; the wait for room is not what is checked */
        hint = true;                                       /* offered after the swap */
#ifdef MUTANT_EVENT_FIRST
        event++;                                           /* a taker may see this, raise the flag and lose it to the exchange */
        atomic { wake = flag; flag = false };
#else
        atomic { wake = flag; flag = false };              /* one exchange */
        event++;
#endif
        if
        :: wake -> d_step { asleep[0] = false; asleep[1] = false; asleep[2] = false }
        :: else
        fi
    :: else -> break
    od
}

proctype Taker(byte me) {
    byte seen;

    do
    :: hint ->                                             /* the fast path: a read of the hint, then of the word */
        if
        :: atomic { ready -> ready = false }; break
        :: !ready ->
            hint = false;                                  /* withdrawn ... */
#ifndef MUTANT_NO_SECOND_LOOK
            if
            :: ready -> hint = true                        /* ... and looked at again: a publish may have fallen in between */
            :: else
            fi;
#endif
            if
            :: break                                       /* is served by another slot */
            :: true
            fi
        fi
    :: true ->                                             /* the slow path */
        seen = event;
        flag = true;
#ifndef MUTANT_NO_RETRY
        if
        :: atomic { ready -> ready = false }; break
        :: else
        fi;
#endif
        if
        :: break                                           /* gives up */
        :: true
        fi;
        atomic {                                           /* futex: sleeps only if the event is what was seen */
            if
            :: event == seen -> asleep[me] = true
            :: else
            fi
        };
        !asleep[me]
    od
}

init {
    atomic {
        run Filler(2);
        run Filler(2);
        run Taker(0);
        run Taker(1);
        run Taker(2)
    }
    timeout;                                               /* nobody can do anything any more */
    assert(!ready || hint)
}
