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
	bugOldGroup         // a group older than the one at work is entered
	bugDoubleCount      // a contribution that comes twice is counted twice
	bugAdopt            // a complete result is averaged anew
	bugForgetHave       // what is held is forgotten when an attempt ends
	bugQuorum           // a minority goes on
	bugAmnesia          // a restarted process votes
	bugHeal             // a heavier lineage is not adopted
	bugStall            // a process that stood still trusts its old view
	bugDeadline         // the deadline is not looked at
	bugUnaveraged       // a failed round is reported as averaged alone
	bugUnbounded        // announcements are never dropped
	bugUnconfirmed      // a pair ends without the partner's word
	bugPairTwice        // a partner's vector is taken in two exchanges
	bugLag              // a partner of any round is taken
	bugPairDeadline     // a pair waits for its partner for ever
	bugCount
)
