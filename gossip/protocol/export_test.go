package protocol

// Bugs are the mistakes that a test can plant.
var Bugs = []struct {
	Name string
	bug  bug
}{
	{"a retry divides by the weights of the first group", bugDivisor},
	{"a Done that is lost is never said again", bugLostDone},
	{"Done before the last chunk", bugEarlyDone},
	{"Commit when all but one are done", bugEarlyCommit},
	{"the digest of the state is not compared", bugDigest},
	{"results that differ are committed", bugResultHash},
	{"data of a stale attempt are accepted", bugStaleAttempt},
	{"a restarted coordinator reuses a number", bugSameNumber},
	{"a contribution that comes twice is counted twice", bugDoubleCount},
	{"a complete result is averaged anew", bugAdopt},
	{"what is held is forgotten when an attempt ends", bugForgetHave},
	{"a minority goes on under a quorum", bugQuorum},
	{"a restarted process votes", bugAmnesia},
	{"a heavier lineage is not adopted", bugHeal},
	{"a process that stood still trusts its old view", bugStall},
	{"the deadline is not looked at", bugDeadline},
	{"a failed round is applied as if averaged", bugUnaveraged},
	{"those who were left out are never asked again", bugFew},
	{"what has been served is never given back", bugServed},
	{"half of the deadline ends an attempt, whoever is at work", bugImpatient},
	{"who waits is not told of an attempt without it", bugElsewhere},
	{"who comes late closes a group at once", bugHasty},
	{"the deadlines of workers end each other's attempts", bugPhases},
	{"an adopted result is sent to four members at a time", bugFour},
	{"what an older attempt asked for is sent to its end", bugQuit},
}

// Plant puts bug i into a machine.
func Plant(m *Rounds, i int) { m.bug = Bugs[i].bug }

// PairBugs are the mistakes that a test can plant in the pair exchange.
var PairBugs = []struct {
	Name string
	bug  bug
}{
	{"Holds before the last chunk", bugPairEarly},
	{"a chunk that comes twice counts twice", bugPairDouble},
	{"the weights of the two are swapped", bugPairSwapped},
	{"the mean of the own vector with itself", bugPairOwn},
	{"the distance of the rounds is not looked at", bugPairLag},
	{"a stale offer is accepted: a vector is taken twice", bugPairTaken},
	{"a restarted process reuses its numbers", bugPairNonce},
	{"a refusal is not heeded", bugPairRefuse},
	{"in doubt, it takes another partner", bugPairDoubt},
	{"applied without the partner's Holds", bugPairAtOnce},
	{"an exchange that was applied is denied to who asks", bugPairEnded},
	{"Holds is said once, and never again", bugPairMute},
	{"a one-sided exchange is not counted", bugPairSilent},
	{"the deadline is not looked at", bugPairLate},
	{"what was taken is never forgotten", bugPairKeep},
	{"a partner that has sent everything is blamed for the own slow line", bugPairUnsent},
}

// PlantPair puts bug i into a machine.
func PlantPair(m *Pairing, i int) {
	if m.bug = PairBugs[i].bug; m.bug == bugPairNonce {
		m.Nonce = 0
	}
}
