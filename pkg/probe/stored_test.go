package probe

import "testing"

// TestAnAgentThatDiedCountingIsCountedRightByTheNext has the agent die at each
// step between the change of a slot and the count.
func TestAnAgentThatDiedCountingIsCountedRightByTheNext(t *testing.T) {
	const gen = 7 << genShift
	for name, c := range map[string]struct {
		was, is uint32
		counted bool // by the one that died
		want    int64
	}{
		"nothing was done to a closed one":          {gen | phaseClosed, gen | phaseClosed, false, 0},
		"a closed one was being freed":              {gen | phaseClosed, gen | phaseClosed | stateStored, false, 1},
		"a closed one was freed":                    {gen | phaseClosed, gen | phaseFree, false, 1},
		"a closed one was freed and counted":        {gen | phaseClosed, gen | phaseFree, true, 0},
		"its slot has the next session":             {gen | phaseClosed, 8<<genShift | phaseLive, false, 1},
		"nothing was done to a live one":            {gen | phaseLive, gen | phaseLive, false, 0},
		"a live one was marked":                     {gen | phaseLive, gen | phaseLive | stateStored, false, 1},
		"a live one was marked and counted":         {gen | phaseLive, gen | phaseLive | stateStored, true, 0},
		"a live one began anew before it was":       {gen | phaseLive, 8<<genShift | phaseLive, false, 0},
		"nothing was done to a marked one":          {gen | phaseLive | stateStored, gen | phaseLive | stateStored, false, 0},
		"the mark of one was taken back":            {gen | phaseLive | stateStored, gen | phaseLive, false, -1},
		"the mark was taken back, and that counted": {gen | phaseLive | stateStored, gen | phaseLive, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			const slot, before = 3, 1<<32 | changingMask // the count's lowest bits change with 1 more
			tab := &table{slots: make([]kernelSlot, 8), meta: &kernelTableMeta{Stored: before}}
			tab.slots[slot].State = c.is
			tab.announce(slot, c.was)
			if c.counted {
				change := int64(1)
				if c.was&stateStored != 0 {
					change = -1
				}
				tab.counted(true, change)
			}
			then := int64(tab.meta.Stored)
			tab.settleCount()
			tab.settleCount() // and the next but one
			if got := int64(tab.meta.Stored) - then; got != c.want {
				t.Errorf("%d more are counted, not %d", got, c.want)
			}
		})
	}
}

func TestACountThatNothingWasAnnouncedOfIsLeftAlone(t *testing.T) {
	for _, changing := range []uint64{0, uint64(phaseFree), 9 << changingSlot, 1<<63 | 5<<changingSlot} {
		tab := &table{slots: make([]kernelSlot, 8), meta: &kernelTableMeta{Stored: 8, Changing: changing}}
		if tab.settleCount(); tab.meta.Stored != 8 {
			t.Errorf("%#x: the count is %d", changing, tab.meta.Stored)
		}
	}
}
