package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/vault"
)

func keysCommand() *cli.Command {
	return &cli.Command{
		Name:      "keys",
		Usage:     "wrap all data keys for the custodians of now, so that a former custodian's key opens nothing any more",
		ArgsUsage: "rotate",
		UsageText: "edgelog keys rotate --identity KEYFILE",
		Description: "Put the new public keys into custodians.recipients, restart the agent, and rotate with a private key that opens what is there.\n" +
			"The data keys are opened and wrapped in this process only. A copy of the old wrapped keys that somebody made before still\n" +
			"opens with the old private key: destroy that, too.",
		Flags:  []cli.Flag{identityFlag(), configFlag(), socketFlag()},
		Action: rotateKeys,
	}
}

func rotateKeys(c *cli.Context) error {
	if c.Args().Len() != 1 || c.Args().First() != "rotate" {
		return usage("name what to do").hint("edgelog keys rotate --identity KEYFILE")
	}
	if err := need(c, "identity"); err != nil {
		return err
	}
	if err := keepMemory(); err != nil {
		return fail(err)
	}
	ids, err := vault.OpenIdentitiesWith(c.String("identity"), askPassphrase, tokenUI(c))
	if err != nil {
		return identityError(c.String("identity"), err)
	}
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	client := agentClient(socket)
	defer client.CloseIdleConnections()
	var list recorder.KeyList
	if err := askKeys(c, client, http.MethodGet, nil, &list); err != nil {
		return agentError(socket, err)
	}
	to, err := vault.ParseRecipients(list.Recipients)
	if err != nil {
		return fail(fmt.Errorf("the agent's recipients: %w", err))
	}
	if to.Len() < max(list.Minimum, 1) {
		return fail(fmt.Errorf("%w: %d, and custodians.minimum is %d", vault.ErrTooFewRecipients, to.Len(), list.Minimum))
	}
	anew, foreign, err := rewrapAll(&list, ids, to)
	if err != nil {
		return fail(err)
	}
	if len(anew.Keys) == 0 && foreign > 0 {
		return fail(fmt.Errorf("none of %d data keys: %w", foreign, vault.ErrWrongIdentity)).hint("use a private key that opened them so far; those of a rotation before are wrapped for the new ones")
	}
	var done recorder.Replaced
	if len(anew.Keys) > 0 {
		if err := askKeys(c, client, http.MethodPost, anew, &done); err != nil {
			return agentError(socket, err)
		}
	}
	fmt.Fprintf(c.App.Writer, "%d data keys are wrapped for %d custodians now; ledger entry %d\n", done.Keys, to.Len(), done.LedgerEntry)
	if foreign > 0 {
		fmt.Fprintf(c.App.Writer, "%d do not open with this key and stay as they are\n", foreign)
	}
	return nil
}

// rewrapAll wraps what the identities open for others. What they do not open is
// counted: keys change hands in the course of a year.
func rewrapAll(list *recorder.KeyList, ids *vault.Identities, to *vault.Recipients) (*recorder.KeyList, int, error) {
	out, foreign := &recorder.KeyList{}, 0
	for _, k := range list.Keys {
		day, epoch, wrapped, err := vault.Rewrap(k.Wrapped, ids, to)
		switch {
		case errors.Is(err, vault.ErrWrongIdentity):
			foreign++
			continue
		case err != nil:
			return nil, 0, fmt.Errorf("data key of day %d, epoch %d: %w", k.Day, k.Epoch, err)
		case day != k.Day || epoch != k.Epoch:
			return nil, 0, fmt.Errorf("what lies as the data key of day %d, epoch %d is that of day %d, epoch %d; nothing was changed", k.Day, k.Epoch, day, epoch)
		}
		sum := sha256.Sum256(k.Wrapped)
		out.Keys = append(out.Keys, recorder.KeyOfADay{Day: k.Day, Epoch: k.Epoch, Hold: k.Hold, Wrapped: wrapped, Instead: hex.EncodeToString(sum[:])})
	}
	return out, foreign, nil
}

func askKeys(c *cli.Context, client *http.Client, method string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(c.Context, method, "http://agent"+recorder.PathKeys, &body)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<12))
		return fmt.Errorf("the agent says: %s", strings.TrimSpace(string(text)))
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
