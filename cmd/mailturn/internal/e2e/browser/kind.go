package browser

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Kind is a browser.
type Kind string

// The browsers.
const (
	Chromium Kind = "chromium"
	Firefox  Kind = "firefox-esr"
)

// Program returns the path of the browser's executable. Debian's chromium is a script, which complains in a network namespace, so
// this is the program that it runs.
func (k Kind) Program() (string, error) {
	const direct = "/usr/lib/chromium/chromium"
	if info, err := os.Stat(direct); k == Chromium && err == nil && info.Mode()&0o111 != 0 {
		return direct, nil
	}
	return exec.LookPath(string(k))
}

// firefoxPreferences are user.js. The first part makes fake devices and lets pages use them and relays on loopback, the second keeps Firefox from
// putting pages of its own before the test's and from suspending that one, and the third from calling home.
const firefoxPreferences = `
user_pref("media.navigator.streams.fake", true);
user_pref("media.navigator.permission.disabled", true);
user_pref("media.autoplay.default", 0);
user_pref("media.peerconnection.ice.loopback", true);

user_pref("marionette.port", 0);

user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.preonboarding.enabled", false);
user_pref("browser.startup.homepage_override.mstone", "ignore");
user_pref("browser.tabs.unloadOnLowMemory", false);
user_pref("datareporting.policy.dataSubmissionPolicyBypassNotification", true);
user_pref("dom.ipc.processPriorityManager.enabled", false);
user_pref("termsofuse.bypassNotification", true);

user_pref("app.normandy.enabled", false);
user_pref("app.update.enabled", false);
user_pref("browser.safebrowsing.downloads.remote.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("extensions.update.enabled", false);
user_pref("media.gmp-manager.updateEnabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "data:,");
user_pref("toolkit.telemetry.enabled", false);
`

// prepare makes the profile in o.Dir.
func (k Kind) prepare(o Options) error {
	database := o.Dir // Firefox's certificates are in its profile
	if k == Chromium {
		database = filepath.Join(o.Dir, ".pki", "nssdb")
	}
	if err := os.MkdirAll(database, 0o700); err != nil {
		return err
	}
	if k == Firefox {
		if err := os.WriteFile(filepath.Join(o.Dir, "user.js"), []byte(firefoxPreferences), 0o600); err != nil {
			return err
		}
	}
	if o.CA == "" {
		return nil
	}
	for _, args := range [][]string{
		{"-N", "--empty-password"},
		{"-A", "-n", "test CA", "-t", "C,,", "-i", o.CA},
	} {
		if out, err := exec.Command(o.Certutil, append(args, "-d", "sql:"+database)...).CombinedOutput(); err != nil {
			return fmt.Errorf("certutil %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// args are those of a headless browser that opens one page.
func (k Kind) args(o Options, page string) []string {
	if k == Firefox {
		return []string{"--headless", "--no-remote", "--profile", o.Dir, page}
	}
	return []string{
		"--headless", "--disable-gpu", "--no-first-run", "--user-data-dir=" + filepath.Join(o.Dir, "profile"),
		"--no-sandbox", "--disable-dev-shm-usage", // for root, and in containers
		"--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required",
		"--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-sync",
		"--enable-logging=stderr", "--log-level=2", page,
	}
}

// remoteArgs are those that let a test drive the browser.
func (k Kind) remoteArgs() []string {
	if k == Firefox {
		return []string{"--marionette"}
	}
	return []string{"--remote-debugging-pipe"}
}
