// Metrics that stub_status lacks, and a receiver for alerts.
//
// Counts responses by client and status, and failed upstream attempts. The counters are in memory that both workers share.
// A restart sets them to zero.
//
// Nearly all responses are a user's 200 of the first attempt. They are not counted one by one, to save CPU (nginx.conf):
// their number is the total of stub_status minus all others.

const STATUSES = 'statuses';
const TRIES = 'tries';
const TOTALS = 'totals';
const USERS_200 = 'client="user",status="200"';

// Runs when the log line of a request is written. Returns nothing to log.
function count(r) {
    ngx.shared[STATUSES].incr(`client="${r.variables.client}",status="${r.status}"`, 1, 0);
    // One status per attempt: in `502, 200` the first attempt failed. `-` is an attempt without a response.
    const tries = (r.variables.upstream_status || '').split(/[,:] */);
    tries.slice(0, -1).forEach(() => ngx.shared[TRIES].incr('retried', 1, 0));
    if (/^(500|502|504|-)$/.test(tries[tries.length - 1])) {
        ngx.shared[TRIES].incr('failed', 1, 0);
    }
    return '';
}

// The same for the inner port.
function countInside() {
    ngx.shared[TOTALS].incr('inside', 1, 0);
    return '';
}

// The number of users' 200s: the total of stub_status minus all other responses counted here. Never less than at the last
// scrape: stub_status counts a request a moment before this script does.
function usersOk(status, counts) {
    const numbers = status.match(/\d+/g).map(Number);
    // Active connections; accepts, handled, requests; reading, writing, waiting. Requests in progress are not counted.
    const ended = numbers[3] - numbers[4] - numbers[5];
    const others = Object.keys(counts).filter((labels) => labels !== USERS_200);
    const inside = ngx.shared[TOTALS].get('inside') || 0;
    const ok = others.reduce((left, labels) => left - counts[labels], ended - inside);
    const shown = Math.max(ok, ngx.shared[TOTALS].get('shown') || 0);
    ngx.shared[TOTALS].set('shown', shown);
    return shown;
}

async function metrics(r) {
    const status = await r.subrequest('/stub_status');
    const lines = [
        '# HELP nginx_responses_total Answers of the public port, by client (a user, or a probe) and status.',
        '# TYPE nginx_responses_total counter',
    ];
    // A rate misses the first event of a series that starts with it, so these series start at zero.
    const counts = {};
    [200, 429, 500, 502, 503, 504].forEach((code) => { counts[`client="user",status="${code}"`] = 0; });
    ngx.shared[STATUSES].items().forEach((pair) => { counts[pair[0]] = pair[1]; });
    counts[USERS_200] = usersOk(status.responseText, counts);
    Object.keys(counts).forEach((labels) => lines.push(`nginx_responses_total{${labels}} ${counts[labels]}`));
    lines.push(
        '# HELP nginx_upstream_tries_total Tries of a replica that did not succeed: retried on another, or failed for good.',
        '# TYPE nginx_upstream_tries_total counter');
    ['retried', 'failed'].forEach((result) => {
        lines.push(`nginx_upstream_tries_total{result="${result}"} ${ngx.shared[TRIES].get(result) || 0}`);
    });
    r.headersOut['Content-Type'] = 'text/plain; version=0.0.4';
    r.return(200, lines.join('\n') + '\n');
}

// Receives the webhook of Alertmanager or Grafana and logs one line per alert.
function alerts(r) {
    let received;
    try {
        received = JSON.parse(r.requestText).alerts;
    } catch (error) {
        received = null;
    }
    if (!Array.isArray(received)) {
        r.return(400, '{"error":"this is no alert webhook"}');
        return;
    }
    const ts = new Date().toISOString();
    r.variables.alert_lines = received.map((alert) => {
        const labels = alert.labels || {};
        const annotations = alert.annotations || {};
        return JSON.stringify({
            ts, msg: 'alert', status: alert.status, alertname: labels.alertname, severity: labels.severity,
            summary: annotations.summary, description: annotations.description, runbook: annotations.runbook_url,
        });
    }).join('\n');
    r.return(204);
}

export default { count, countInside, metrics, alerts };
