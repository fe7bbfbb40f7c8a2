package imap

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestIdleTimeoutShorterThanLogin checks that a long time to log in does not make the idle timeout longer, nor the other way round.
func TestIdleTimeoutShorterThanLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t)
		config.LoginTimeout = 3 * time.Hour
		e := startPipes(t, config)
		waits, idles := dialPipe(t, e, loopback, false), dialPipe(t, e, loopback, false)
		waits.expect(`\* OK`)
		idles.expect(`\* OK`)
		begin := time.Now()
		time.Sleep(time.Hour)
		idles.send("a LOGIN alice wonderland\r\n")
		time.Sleep(10 * time.Minute)
		idles.expect(`a OK`)
		idles.expect(`\* BYE Autologout; idle too long`)
		if took := time.Since(begin); took != time.Hour+41*time.Minute {
			t.Errorf("idle connection ended after %v, want 1h41m", took)
		}
		waits.expect(`\* BYE Autologout; too slow to log in`)
		if took := time.Since(begin); took != 3*time.Hour {
			t.Errorf("connection without a login ended after %v, want 3h", took)
		}
	})
}

// TestAutologoutTimer checks that a timer that is stopped while it fires stays stopped, because the session has ended.
func TestAutologoutTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timer := autologoutTimer{login: time.Second, idle: time.Hour}
		fired := 0
		timer.begin(func() { fired++ })
		time.Sleep(time.Second)
		synctest.Wait()
		timer.stop()
		timer.again(time.Second)
		time.Sleep(time.Minute)
		if fired != 1 {
			t.Errorf("fired %d times, want once", fired)
		}
	})
}
