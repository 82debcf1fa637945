"use strict";
// Asks for new points every 2 s and draws them. All text goes through textContent or ECharts' labels, never through HTML.
(function () {
  const POLL_MS = 2000, ANSWER_MS_MAX = 10000, POINTS_MAX = 3600;
  const LATENCY_HEADS = { metric: "Metric (ms)", span: "Over", n: "n", mean: "Mean", p50: "p50", p90: "p90", p99: "p99", max: "Max" };
  const RATE_HEADS = { metric: "Metric", recent: "Last 10 s", total: "Whole test" };

  const latency = (id, title, key, limit) => ({
    id: id, title: title, unit: "ms", limit: limit,
    lines: [
      { name: "p50", key: key + "_p50", colour: "--series0" },
      { name: "p99", key: key + "_p99", colour: "--series1" },
    ],
  });
  const CHARTS = [
    {
      id: "tokens", title: "Output tokens/s, and users", unit: "tokens/s",
      lines: [
        { name: "tokens/s", key: "output_tokens_per_s", colour: "--series0", area: true },
        { name: "users (right)", key: "users", colour: "--series-quiet", right: true, step: true, dashed: true },
      ],
    },
    latency("ttft", "Time to first token (TTFT)", "ttft_ms", "ttft_ms"),
    latency("itl", "Gap between tokens (ITL)", "itl_ms", null),
    latency("tpot", "Time per output token (TPOT)", "tpot_ms", "tpot_ms"),
    latency("e2e", "Whole request (E2E)", "e2e_ms", "e2e_ms"),
    {
      id: "requests", title: "Requests/s", unit: "1/s",
      lines: [
        { name: "ok", key: "requests_per_s", colour: "--series0" },
        { name: "within limits (goodput)", key: "goodput_rps", colour: "--series2", dashed: true },
        { name: "failed", key: "failed_per_s", colour: "--series-bad" },
      ],
    },
    {
      id: "in-flight", title: "In flight", unit: "requests",
      lines: [
        { name: "requests in flight", key: "in_flight", colour: "--series0" },
        { name: "users", key: "users", colour: "--series-quiet", step: true, dashed: true },
      ],
    },
  ];

  const element = (id) => document.getElementById(id);
  let points = {}, lastTime = 0, startedS = null, limits = {}, drawn = null, silentSince = null;

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function shown(value) {
    if (value === null) return "–";
    if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en-US");
    return value.toFixed(value >= 10 ? 1 : 2);
  }

  function line(one) {
    const times = points.time_s || [], values = points[one.key] || [];
    return {
      name: one.name, type: "line", showSymbol: times.length < 2, symbolSize: 5, sampling: "lttb", yAxisIndex: one.right ? 1 : 0,
      step: one.step ? "end" : false, connectNulls: false,
      lineStyle: { color: colour(one.colour), width: one.step ? 1.5 : 2, type: one.dashed ? "dashed" : "solid" }, itemStyle: { color: colour(one.colour) },
      areaStyle: one.area ? { color: colour(one.colour), opacity: 0.12 } : undefined,
      data: times.map((time, position) => [time * 1000, values[position]]),
    };
  }

  function option(chart) {
    const text = colour("--text"), quiet = colour("--quiet"), rule = colour("--line");
    const lines = chart.lines.filter((one) => one.key !== "goodput_rps" || (points.goodput_rps || []).some((value) => value !== null));
    const series = lines.map(line);
    const limit = chart.limit ? limits[chart.limit] : null;
    if (limit != null) {
      series[0].markLine = {
        silent: true, symbol: "none", data: [{ yAxis: limit }],
        lineStyle: { color: colour("--series-bad"), type: "dashed" },
        label: { formatter: "limit " + shown(limit) + " ms", position: "insideStartTop", color: colour("--series-bad") },
      };
    }
    const axis = { axisLabel: { color: quiet, hideOverlap: true }, axisLine: { lineStyle: { color: rule } }, splitLine: { lineStyle: { color: rule } } };
    const yAxis = [Object.assign({ type: "value", min: 0 }, axis)];
    if (limit != null) {  // also a limit above all values is seen
      yAxis[0].max = (extent) => Math.max(extent.max, limit) * 1.15;
      yAxis[0].axisLabel = Object.assign({ showMaxLabel: false }, axis.axisLabel);
    }
    if (lines.some((one) => one.right)) yAxis.push(Object.assign({ type: "value", min: 0, minInterval: 1 }, axis, { splitLine: { show: false } }));
    return {
      animation: false,
      backgroundColor: "transparent",
      textStyle: { fontFamily: "system-ui, sans-serif" },
      title: { text: chart.title + (chart.unit === "ms" ? ", ms" : ""), left: 0, top: 0, textStyle: { color: text, fontSize: 14, fontWeight: 600 } },
      legend: { top: 22, left: 0, itemWidth: 14, itemHeight: 8, textStyle: { color: quiet }, data: lines.map((one) => one.name) },
      grid: { left: 4, right: 26, top: 54, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
      tooltip: { trigger: "axis", renderMode: "richText", confine: true, valueFormatter: (value) => shown(value === undefined ? null : value) },
      xAxis: Object.assign({ type: "time" }, axis, { splitLine: { show: false } }),
      yAxis: yAxis,
      series: series,
    };
  }

  function draw() {
    if (drawn === null) {
      drawn = CHARTS.map((chart) => {
        const box = document.createElement("div");
        box.className = "chart";
        box.id = "chart-" + chart.id;
        element("charts").append(box);
        return { chart: chart, instance: echarts.init(box, null, { renderer: "svg" }) };
      });
      echarts.connect(drawn.map((one) => one.instance));
    }
    drawn.forEach((one) => one.instance.setOption(option(one.chart), true));
  }

  function keep(ticks) {
    for (const [key, values] of Object.entries(ticks)) {
      points[key] = (points[key] || []).concat(values).slice(-POINTS_MAX);
    }
    const times = points.time_s || [];
    if (times.length > 0) lastTime = times[times.length - 1];
  }

  function fill(table, heads, rows) {
    const cell = (tag, key, text) => {
      const made = document.createElement(tag);
      made.textContent = text;
      if (key === "metric" || key === "span") made.className = "words";
      return made;
    };
    const tableRow = (tag, texts) => {
      const made = document.createElement("tr");
      made.append(...Object.keys(heads).map((key) => cell(tag, key, texts[key])));
      return made;
    };
    table.tHead.replaceChildren(tableRow("th", heads));
    table.tBodies[0].replaceChildren(...rows.map((row) => tableRow("td", row)));
  }

  function say(notice) {
    element("notice").textContent = notice || "";
    element("notice").hidden = !notice;
  }

  function elapsed(seconds) {
    const whole = Math.max(0, Math.round(seconds)), minutes = Math.floor(whole / 60);
    return minutes > 0 ? minutes + " min " + (whole % 60) + " s" : whole + " s";
  }

  function show(live) {
    if (live.started_s !== startedS) {  // another test, or a reset: its points only
      startedS = live.started_s;
      points = {};
    }
    limits = live.limits;
    keep(live.ticks);
    element("state").textContent = live.state;
    element("state").className = "badge" + (live.running ? " running" : "");
    const facts = [live.host, live.running ? live.users + (live.users === 1 ? " user" : " users") : null];
    if (startedS !== null && live.running) facts.push("for " + elapsed(lastTime - startedS));
    element("about").textContent = facts.filter((fact) => fact).join(" · ");
    for (const [key, value] of Object.entries(live.now)) element(key).textContent = shown(value);
    element("failed-tile").className = live.now.failed > 0 ? "bad" : "";
    element("ttft_ms_p99").closest("div").className = limits.ttft_ms !== null && live.now.ttft_ms_p99 > limits.ttft_ms ? "over" : "";
    element("ready").hidden = startedS !== null;
    element("tables").hidden = startedS === null;
    const refusal = live.refusal ? "The last test did not start: " + live.refusal : null;
    say([refusal, live.notice].filter((one) => one).join("; "));
    fill(element("latency"), LATENCY_HEADS, live.latency);
    fill(element("rates"), RATE_HEADS, live.rates);
    if (!live.more && (drawn !== null || (points.time_s || []).length > 0)) draw();
  }

  async function poll() {
    let waitMs = POLL_MS;
    try {
      const known = startedS;
      const answer = await fetch("live.json?after=" + lastTime, { signal: AbortSignal.timeout(ANSWER_MS_MAX) });
      if (answer.redirected) {
        say("Logged out: reload this page to log in again.");
        return;
      }
      if (!answer.ok) throw new Error("status " + answer.status);
      const live = await answer.json();
      silentSince = null;
      if (live.started_s !== known && lastTime > 0) lastTime = 0;  // another test: its points are asked for from the first
      else {
        show(live);
        if (live.more) waitMs = 0;
      }
    } catch (error) {
      silentSince = silentSince || new Date().toLocaleTimeString();
      say("No answer from Locust since " + silentSince + ": what was drawn stays; trying again.");
      element("state").className = "badge";
      element("state").textContent = "no answer";
    } finally {
      setTimeout(poll, waitMs);
    }
  }

  window.addEventListener("resize", () => drawn && drawn.forEach((one) => one.instance.resize()));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn && draw());
  poll();
})();
