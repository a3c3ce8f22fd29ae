package conformance

// EachTrial calls begins when a trial begins, on an authenticator that is ready
// for it, until restore is called. What the trial knows of the authenticator is
// asked for after that.
func EachTrial(begins func()) (restore func()) {
	before := cases
	all := Cases()
	for i := range all {
		run := all[i].run
		all[i].run = func(x *trial) error {
			begins()
			x.info = x.fresh()
			return run(x)
		}
	}
	cases = func() []Case { return all }
	return func() { cases = before }
}
