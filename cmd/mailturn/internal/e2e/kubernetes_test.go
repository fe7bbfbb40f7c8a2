package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

// manifest is what the test reads of an object in dist/kubernetes/mailturn.yaml.
type manifest struct {
	Kind string
	Data map[string]string
	Spec struct {
		Template struct {
			Spec struct {
				HostNetwork                   bool
				TerminationGracePeriodSeconds int
				Containers                    []struct {
					Env                           []struct{ Name string }
					ReadinessProbe, LivenessProbe struct {
						HTTPGet struct {
							Host, Path string
							Port       int
						}
					}
					Ports []struct {
						ContainerPort int
						Protocol      string
					}
				}
			}
		}
	}
}

// TestKubernetesManifest starts mailturn with the configuration in the manifest, as the orchestrator does on each node, and asks it what
// the probes ask. There is no Redis: the relay is ready without.
func TestKubernetesManifest(t *testing.T) {
	t.Parallel()
	python := peer(t, "/usr/bin/python3", "python3 python3-yaml")
	text, err := exec.Command(python, "-c", "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)",
		"../../../../dist/kubernetes/mailturn.yaml").Output()
	must(t, err)
	var objects []manifest
	must(t, json.Unmarshal(text, &objects))
	if len(objects) != 2 || objects[0].Kind != "ConfigMap" || objects[1].Kind != "DaemonSet" || len(objects[1].Spec.Template.Spec.Containers) != 1 {
		t.Fatalf("the objects are %+v", objects)
	}
	pod := objects[1].Spec.Template.Spec
	relay := pod.Containers[0]
	if !pod.HostNetwork {
		t.Error("the pods do not use the network of the host")
	}
	if !strings.Contains(objects[0].Data["maddy.conf"], `drain_timeout = "1h"`) || pod.TerminationGracePeriodSeconds < 3600+20 {
		t.Errorf("pods end after %d seconds, before their calls", pod.TerminationGracePeriodSeconds)
	}

	n := newNetwork(t)
	const public = "9.0.0.1"
	n.server.ip(t, "addr", "add", public+"/32", "dev", "eth0")
	n.server.ip(t, "route", "add", "default", "via", clientIPv4, "src", public)
	dir := t.TempDir()
	pair, _, err := certs.SelfSigned(dir, nil, time.Now())
	must(t, err)
	must(t, os.Rename(pair.Cert, filepath.Join(dir, "tls.crt")))
	must(t, os.Rename(pair.Key, filepath.Join(dir, "tls.key")))
	must(t, os.WriteFile(filepath.Join(dir, "turn.secret"), []byte(secret), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "redis.password"), []byte("sesame"), 0o600))
	config := filepath.Join(dir, "maddy.conf")
	must(t, os.WriteFile(config, []byte(strings.ReplaceAll(objects[0].Data["maddy.conf"], "/etc/mailturn/secret", dir)), 0o600))
	cmd := n.server.command(binary, "run", "--state-dir", t.TempDir(), "--config", config)
	cmd.Env = os.Environ()
	for _, variable := range relay.Env {
		cmd.Env = append(cmd.Env, variable.Name+"="+public)
	}
	startCommand(t, cmd)

	client := http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, network, addr string) (conn net.Conn, err error) {
		n.server.do(t, func() { conn, err = net.Dial(network, addr) })
		return conn, err
	}}}
	defer client.CloseIdleConnections()
	for _, probe := range []struct {
		Host, Path string
		Port       int
	}{relay.ReadinessProbe.HTTPGet, relay.LivenessProbe.HTTPGet} {
		response, err := client.Get(fmt.Sprintf("http://%s:%d%s", probe.Host, probe.Port, probe.Path))
		must(t, err)
		response.Body.Close()
		if response.StatusCode != http.StatusOK || probe.Path == "" {
			t.Errorf("%s: %s", probe.Path, response.Status)
		}
	}
	for _, port := range relay.Ports {
		if port.Protocol == "UDP" {
			continue
		}
		n.server.do(t, func() {
			conn, err := net.Dial("tcp", net.JoinHostPort(public, strconv.Itoa(port.ContainerPort)))
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
		})
	}
}
