package protocol

// bug plants one mistake in a state machine, so that a test can show that the checker
// of the simulation finds it. Only tests can set it.
type bug uint8

const (
	bugNone         bug = iota
	bugDivisor          // a retry divides by the weights of the first group
	bugLostDone         // Done is said once, and never again
	bugEarlyDone        // Done before the last chunk
	bugEarlyCommit      // Commit when all but one are done
	bugDigest           // the digest of the state is not compared
	bugResultHash       // results that differ are committed
	bugStaleAttempt     // frames of an attempt that is over are taken
	bugSameNumber       // two groups of one number are not told apart
	bugDoubleCount      // a contribution that comes twice is counted twice
	bugAdopt            // a complete result is averaged anew
	bugForgetHave       // what is held is forgotten when an attempt ends
	bugQuorum           // a minority goes on
	bugAmnesia          // a restarted process votes
	bugHeal             // a heavier lineage is not adopted
	bugStall            // a process that stood still trusts its old view
	bugDeadline         // the deadline is not looked at
	bugUnaveraged       // a failed round is reported as averaged alone
	bugFew              // those who are left out are never asked again
	bugServed           // what has been served is never given back
	bugHasty            // who comes late closes a group at once
	bugFour             // an adopted result is sent to four members at a time
	bugQuit             // what was asked for in an older attempt is sent to its end
	bugPhases           // each worker's deadline ends the others' attempts in turn
	bugElsewhere        // who waits is not told of an attempt without it
	bugImpatient        // half of the deadline ends an attempt, whoever is at work

	bugPairDouble  // a chunk that comes twice counts twice
	bugPairEarly   // Holds before the last chunk
	bugPairSwapped // the weights of the two are swapped
	bugPairOwn     // the mean of the own vector with itself
	bugPairLag     // the distance of the rounds is not looked at
	bugPairRefuse  // a refusal is not heeded
	bugPairDoubt   // in doubt, it takes another partner
	bugPairAtOnce  // applied without the partner's Holds
	bugPairSilent  // a one-sided exchange is not counted
	bugPairEnded   // an exchange that was applied is denied to who asks
	bugPairTaken   // a vector is taken twice
	bugPairNonce   // a restarted process reuses its numbers
	bugPairLate    // the deadline is not looked at
	bugPairKeep    // what was taken is never forgotten
	bugPairMute    // Holds is said once, and never again
	bugPairUnsent  // a partner that has sent everything is blamed for the own slow line
)
