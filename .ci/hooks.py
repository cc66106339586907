"""What schemathesis does before it sends a request."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """Waits for events end soon: an answer that is held for 30 seconds shows nothing more than one that is held for one."""
    query = case.query or {}
    if str(query.get("wait", "")).isdigit() and 1 < int(query["wait"]) <= 30:
        query["wait"] = 1
