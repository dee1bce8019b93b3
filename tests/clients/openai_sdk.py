"""The official OpenAI SDK against Cordon: answers, streams, usage, and every error as its own type.

Usage: openai_sdk.py BASE_URL KEY SCENARIO. Prints one JSON object.
"""

import json
import sys

import openai

base, key, scenario = sys.argv[1:4]
client = openai.OpenAI(base_url=base, api_key=key, max_retries=0, timeout=60)
MESSAGES = [{"role": "user", "content": "hello"}]


def error(call):
    try:
        call()
    except openai.APIStatusError as fault:
        body = fault.body if isinstance(fault.body, dict) else {}
        return {
            "class": type(fault).__name__,
            "status": fault.status_code,
            "code": fault.code,
            "type": fault.type,
            "rules": [rule["id"] for rule in body.get("cordon", {}).get("rules", [])],
            "retry_after": fault.response.headers.get("retry-after"),
        }
    return {"class": None}


def chat(**options):
    given = {"model": "assistant", "messages": MESSAGES, **options}
    return client.chat.completions.create(**given)


def answers():
    whole = chat()
    usage = None
    parts = []
    for chunk in chat(stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        parts.extend(choice.delta.content or "" for choice in chunk.choices)
    return {
        "content": whole.choices[0].message.content,
        "usage": whole.usage.total_tokens,
        "stream": "".join(parts),
        "stream_usage": usage.total_tokens,
        "models": [model.id for model in client.models.list().data],
    }


def errors():
    stranger = openai.OpenAI(base_url=base, api_key="cdn_wrong", max_retries=0)
    marked = [{"role": "user", "content": "CUI//SP-CTI//NOFORN: summarise"}]
    return {
        "400": error(lambda: chat(messages=[])),
        "401": error(lambda: stranger.models.list()),
        "403": error(lambda: chat(messages=marked)),
        "404": error(lambda: chat(model="nobody")),
    }


def one_error():
    return error(chat)


def broken_stream():
    parts = []
    try:
        for chunk in chat(stream=True):
            parts.extend(choice.delta.content or "" for choice in chunk.choices)
    except openai.APIError as fault:
        return {"class": type(fault).__name__, "text": "".join(parts)}
    return {"class": None}


def large():
    return error(lambda: chat(messages=[{"role": "user", "content": "x" * (33 << 20)}]))


scenarios = {
    "answers": answers,
    "broken_stream": broken_stream,
    "errors": errors,
    "large": large,
    "one_error": one_error,
}
print(json.dumps(scenarios[scenario]()))
