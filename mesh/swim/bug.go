package swim

// bug plants one mistake in a state machine, so that a test can show that the checker
// of the simulation finds it. Only tests can set it.
type bug uint8

const (
	bugNone     bug = iota
	bugRefute       // nobody refutes
	bugStale        // rumors of an older incarnation count
	bugPatience     // a suspicion never ends in death
	bugVouched      // the answers that others get are ignored
	bugStall        // time in which this process stood still is held against the others
	bugSpread       // rumors are not passed on
	bugRecall       // a dead member that refutes is not dialed
	bugTrips        // an ack may take a tenth of a period, whatever was observed
	bugForever      // rumors are told for ever
)
