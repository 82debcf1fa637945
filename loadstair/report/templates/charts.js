"use strict";
// Draws the figures of the data block. All text goes through ECharts' own labels (SVG text), never through HTML. Colours are
// the style sheet's variables, so that the theme, and paper, change them without a new drawing.
(function () {
  const data = JSON.parse(document.getElementById("chart-data").textContent);

  const SYMBOLS = ["circle", "rect", "triangle", "diamond", "path://M0,0L10,0L5,9z",
    "path://M50,0L61,35L98,35L68,57L79,91L50,70L21,91L32,57L2,35L39,35z"];
  const GROUND = "var(--ground)", TEXT = "var(--text)", QUIET = "var(--quiet)", RULE = "var(--line)";
  const BAD = "var(--bad)", FONT = "system-ui, sans-serif";
  const LEFT = 52, RIGHT = 18, TITLE = 30, AXIS = 48;  // px around a panel's plot area
  const NARROW = 640;  // px: below it panels stand one below the other
  const PAPER = 690;  // px: A4 within the margins of the style sheet

  const loadsOf = (panel) => panel.loads || data.loads;
  const colour = (style) => "var(--series" + style + ")";
  const drawnAs = (extra) => Object.assign({ silent: true, tooltip: { show: false }, emphasis: { disabled: true } }, extra);

  function band(line, at) {
    const sure = line.points.filter((point) => point.valid && point.low !== null);
    return drawnAs({
      type: "custom", clip: true, z: 1, xAxisIndex: at, yAxisIndex: at,
      data: sure.length > 1 ? [[sure[0].load, sure[0].value]] : [],
      renderItem: (params, api) => ({
        type: "polygon",
        shape: {
          points: sure.map((point) => api.coord([point.load, point.high]))
            .concat(sure.slice().reverse().map((point) => api.coord([point.load, point.low]))),
        },
        style: { fill: colour(line.style), opacity: 0.16 },
      }),
    });
  }

  function whiskers(line, at) {
    return drawnAs({
      type: "custom", clip: true, z: 2, xAxisIndex: at, yAxisIndex: at,
      data: line.points.filter((point) => point.low !== null).map((point) => [point.load, point.low, point.high]),
      encode: { x: 0, y: [1, 2] },
      renderItem: (params, api) => {
        const low = api.coord([api.value(0), api.value(1)]), high = api.coord([api.value(0), api.value(2)]);
        return {
          type: "line",
          shape: { x1: low[0], y1: low[1], x2: high[0], y2: high[1] },
          style: { stroke: colour(line.style), lineWidth: 1.5, opacity: 0.8 },
        };
      },
    });
  }

  function loadLine(line, at) {
    return {
      type: "line", name: line.name, z: 4, xAxisIndex: at, yAxisIndex: at, emphasis: { disabled: true },
      symbol: SYMBOLS[line.style], symbolSize: line.dashed ? 6 : 9,
      lineStyle: { color: colour(line.style), width: line.dashed ? 1.25 : 2, type: line.dashed ? "dashed" : "solid" },
      itemStyle: { color: colour(line.style), borderColor: GROUND, borderWidth: 1 },
      data: line.points.filter((point) => point.valid).map((point) => [point.load, point.value]),
    };
  }

  function hollow(line, at) {
    return {
      type: "scatter", name: line.name, z: 5, xAxisIndex: at, yAxisIndex: at, emphasis: { disabled: true },
      symbol: SYMBOLS[line.style], symbolSize: line.dashed ? 7 : 10,
      itemStyle: { color: GROUND, borderColor: colour(line.style), borderWidth: 2 },
      data: line.points.filter((point) => !point.valid).map((point) => [point.load, point.value]),
    };
  }

  function knees(marks, at) {
    return drawnAs({
      type: "scatter", z: 6, xAxisIndex: at, yAxisIndex: at, symbol: "circle", symbolSize: 20,
      data: marks.map((mark) => ({
        value: [mark.load, mark.value],
        itemStyle: { color: "transparent", borderColor: colour(mark.style), borderWidth: 2 },
        label: { show: true, formatter: () => mark.text, position: "bottom", color: colour(mark.style), fontWeight: 600 },
      })),
    });
  }

  // Lines across the panel on a series without points: the crossover with its span, the SLO's limit, the load generator's
  // ceiling.
  function acrossLoad(panel, at) {
    const label = { color: TEXT, fontSize: 12, textBorderColor: GROUND, textBorderWidth: 3 };
    const loads = loadsOf(panel);
    const middle = Math.sqrt(loads[0] * loads[loads.length - 1]);
    const rules = panel.spans.map((span, place) => ({
      xAxis: span.value,
      lineStyle: { color: QUIET, type: "dashed" },
      label: Object.assign({
        formatter: () => span.text, position: "insideEndTop", rotate: 0,
        align: span.value > middle ? "right" : "left", offset: [span.value > middle ? -14 : 14, 16 * place + 14],
      }, label),
    }));
    if (panel.limit !== null) {
      rules.push({
        yAxis: panel.limit.value,
        lineStyle: { color: BAD, type: "dashed" },
        label: Object.assign({}, label, { formatter: () => panel.limit.text, position: "insideStartTop", color: BAD }),
      });
    }
    if (panel.ceiling) {
      rules.push({
        yAxis: panel.ceiling.value,
        lineStyle: { color: QUIET, type: "dashed" },
        label: Object.assign({}, label, { formatter: () => panel.ceiling.text, position: "insideStartTop", color: QUIET }),
      });
    }
    return drawnAs({
      type: "line", data: [], xAxisIndex: at, yAxisIndex: at,
      markLine: { silent: true, symbol: "none", data: rules },
      markArea: {
        silent: true, itemStyle: { color: QUIET, opacity: 0.15 },
        data: panel.spans.map((span) => [{ xAxis: span.low }, { xAxis: span.high }]),
      },
    });
  }

  // What the GPUs can do at all, or what was predicted: no points of its own, and cut off where it leaves the panel.
  function beside(lines, type, at) {
    return (lines || []).map((one) => drawnAs({
      type: "line", z: 3, xAxisIndex: at, yAxisIndex: at, showSymbol: false, symbol: "none", data: one.points,
      lineStyle: { color: colour(one.style), width: 1.5, type: type, opacity: 0.9 },
    }));
  }

  function loadSeries(panel, at) {
    const lines = panel.lines.flatMap((line) => [band(line, at), whiskers(line, at), loadLine(line, at), hollow(line, at)]);
    const others = [...beside(panel.physical, "dotted", at), ...beside(panel.predicted, "dashed", at)];
    return [...lines, knees(panel.marks, at), acrossLoad(panel, at), ...others];
  }

  function timeSeries(panel, at) {
    const lines = panel.lines.map((line) => ({
      type: "line", name: line.name, z: 4, xAxisIndex: at, yAxisIndex: at, showSymbol: false, emphasis: { disabled: true },
      symbol: "none", lineStyle: { color: colour(line.style), width: 2, type: line.dashed ? "dashed" : "solid" },
      data: line.values.map((value, place) => [panel.time_s[place], value]),
    }));
    const steps = drawnAs({
      type: "line", data: [], xAxisIndex: at, yAxisIndex: at,
      markLine: {
        silent: true, symbol: "none", label: { show: false },
        lineStyle: { color: QUIET, type: "solid", width: 1, opacity: 0.6 },
        data: panel.steps.map((step) => ({ xAxis: step.start_s })),
      },
      markArea: {
        silent: true, itemStyle: { color: QUIET, opacity: 0.1 },
        label: { color: QUIET, fontSize: 11, position: "top", distance: 2 },
        data: panel.steps.map((step) => [{ name: step.text, xAxis: step.hold_start_s }, { xAxis: step.hold_end_s }]),
      },
    });
    const moments = drawnAs({
      type: "line", data: [], xAxisIndex: at, yAxisIndex: at,
      markLine: {
        silent: true, symbol: "none", lineStyle: { color: BAD, type: "dashed", width: 1.5 },
        data: (panel.rules || []).map((rule, place) => ({
          xAxis: rule.at_s,
          label: {
            formatter: () => rule.text, position: "insideEndTop", rotate: 0, align: "left", offset: [6, 16 * place + 14],
            color: TEXT, fontSize: 12, textBorderColor: GROUND, textBorderWidth: 3,
          },
        })),
      },
    });
    return [...lines, steps, moments];
  }

  function shareSeries(panel, at) {
    return panel.parts.map((part) => ({
      type: "bar", name: part.name, stack: "all", xAxisIndex: at, yAxisIndex: at, barMaxWidth: 64, emphasis: { disabled: true },
      itemStyle: { color: colour(part.style), borderColor: GROUND, borderWidth: 2 },
      label: {
        show: true, color: GROUND, fontSize: 11,
        formatter: (one) => part.shares[one.dataIndex] < 0.1 ? "" : part.texts[one.dataIndex],
      },
      data: part.shares,
    }));
  }

  const short = (value) => Math.abs(value) >= 1e4 ? value / 1e3 + "k" : String(value);
  const percent = (value) => Number((value * 100).toPrecision(3)) + " %";
  const LINES = {
    axisLabel: { color: QUIET }, axisLine: { lineStyle: { color: RULE } }, axisTick: { lineStyle: { color: RULE } },
    splitLine: { lineStyle: { color: RULE } },
  };
  const SCREEN = { nameLocation: "middle", nameGap: 26, nameTextStyle: { color: QUIET } };

  function xAxis(panel, at) {
    const shared = Object.assign({ gridIndex: at }, LINES, SCREEN);
    if (panel.kind === "shares") return Object.assign(shared, { type: "category", data: panel.loads, name: data.x });
    if (panel.kind === "time") {
      return Object.assign(shared, {
        type: "value", min: 0, max: panel.end_s, name: "s", splitLine: { show: false },
        axisLabel: { color: QUIET, showMaxLabel: false },
      });
    }
    const loads = loadsOf(panel);
    return Object.assign(shared, {
      type: "log", logBase: 2, min: loads[0] * 0.84, max: loads[loads.length - 1] * 1.19, name: data.x,
      axisTick: { customValues: loads, lineStyle: { color: RULE } },
      axisLabel: { customValues: loads, color: QUIET, hideOverlap: true, formatter: (value) => String(value) },
      splitLine: { show: false },
    });
  }

  // A round number above the values. An interval may reach beyond it and is cut off there: one that is ten times its value
  // would press all lines to the ground.
  function highest(panel) {
    const points = panel.lines.flatMap((line) => line.points);
    const reach = (point) => point.valid && point.high !== null ? Math.min(point.high, point.value * 2) : 0;
    let top = Math.max(0, ...points.map((point) => Math.max(point.value * 1.1, reach(point))));
    if (panel.limit !== null && panel.limit.value < 2 * top) top = Math.max(top, panel.limit.value * 1.1);
    if (panel.ceiling) top = Math.max(top, panel.ceiling.value * 1.1);
    if (top === 0) return 1;
    const unit = Math.pow(10, Math.floor(Math.log10(top)));
    return [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((step) => step * unit).find((round) => round >= top * 0.999);
  }

  function yAxis(panel, at) {
    if (panel.logarithmic) {
      return Object.assign({ gridIndex: at, type: "log" }, LINES, { axisLabel: { color: QUIET, formatter: short } });
    }
    const top = { load: highest, time: () => undefined, shares: () => 1 }[panel.kind](panel);
    const label = { color: QUIET, formatter: panel.percent ? percent : short };
    return Object.assign({ gridIndex: at, type: "value", min: panel.fitted ? undefined : 0, scale: !!panel.fitted, max: top }, LINES, { axisLabel: label });
  }

  function tip(panel, params) {
    const first = params.find((one) => one.data !== undefined) || params[0];
    const at = first.dataIndex;
    if (panel.kind === "shares") {
      return [panel.loads[at] + " " + data.x, ...panel.parts.map((part) => part.name + ": " + part.texts[at])].join("\n");
    }
    if (panel.kind === "time") {
      const step = panel.steps.filter((one) => one.start_s <= panel.time_s[at]).pop();
      const when = Math.round(panel.time_s[at]) + " s" + (step ? ", " + step.tip : "");
      return [when, ...panel.lines.map((line) => line.name + ": " + line.texts[at])].join("\n");
    }
    const load = first.data[0];
    const told = panel.lines.flatMap((line) => line.points.filter((point) => point.load === load)
      .map((point) => line.name + (line.dashed ? " p50" : "") + ": " + point.text));
    return [load + " " + data.x, ...told].join("\n");
  }

  function option(figure, width) {
    const columns = width < NARROW ? 1 : Math.min(figure.columns, figure.panels.length);
    const across = width / columns;
    const place = (at) => ({ left: (at % columns) * across, top: Math.floor(at / columns) * figure.panelHeight });
    const series = { load: loadSeries, time: timeSeries, shares: shareSeries };
    return {
      animation: false,
      backgroundColor: "transparent",
      textStyle: { fontFamily: FONT },
      title: figure.panels.map((panel, at) => ({
        text: panel.title, left: place(at).left, top: place(at).top + 2, padding: 0,
        textStyle: { color: TEXT, fontSize: 13, fontWeight: 600, width: across - RIGHT, overflow: "truncate" },
      })),
      grid: figure.panels.map((panel, at) => ({
        left: place(at).left + LEFT, top: place(at).top + TITLE + (panel.kind === "time" ? 8 : 0), outerBoundsMode: "none",
        width: across - LEFT - RIGHT, height: figure.panelHeight - TITLE - AXIS - (panel.kind === "time" ? 8 : 0),
      })),
      xAxis: figure.panels.map(xAxis),
      yAxis: figure.panels.map(yAxis),
      tooltip: {
        trigger: "axis", renderMode: "richText", confine: true,
        backgroundColor: "var(--panel)", borderColor: RULE, borderWidth: 1,
        textStyle: { color: TEXT, fontSize: 13, fontFamily: FONT }, axisPointer: { type: "line", lineStyle: { color: QUIET } },
        formatter: (params) => tip(figure.panels[params[0].axisIndex], params),
      },
      series: figure.panels.flatMap((panel, at) => series[panel.kind](panel, at)),
    };
  }

  function draw(one, width) {
    const columns = width < NARROW ? 1 : Math.min(one.figure.columns, one.figure.panels.length);
    const height = Math.ceil(one.figure.panels.length / columns) * one.figure.panelHeight;
    one.element.style.height = height + "px";
    one.chart.resize({ width: width, height: height });
    one.chart.setOption(option(one.figure, width), true);
  }

  const drawn = data.figures.map((figure) => {
    const element = document.getElementById("chart-" + figure.id);
    const size = { renderer: "svg", width: element.clientWidth, height: figure.panelHeight };
    return { figure: figure, element: element, chart: echarts.init(element, null, size) };
  });
  const drawAll = (width) => drawn.forEach((one) => draw(one, width || one.element.clientWidth));
  drawAll();

  let waiting = null;
  window.addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => drawAll());
  });

  // On paper: everything opened, charts as wide as the sheet.
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    closed.forEach((one) => { one.open = true; });
    drawAll(PAPER);
  });
  window.addEventListener("afterprint", () => {
    closed.forEach((one) => { one.open = false; });
    drawAll();
  });
})();
