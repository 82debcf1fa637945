"use strict";
// Draws the two charts from the data block. All text goes through ECharts' labels or textContent, never through HTML.
(function () {
  const data = JSON.parse(document.getElementById("chart-data").textContent);

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function band(points, fill) {
    const sure = points.filter((point) => point.valid && point.low !== null);
    return {
      type: "custom",
      silent: true,
      clip: true,
      z: 1,
      data: sure.length > 1 ? [[sure[0].load, sure[0].value]] : [],
      renderItem: (params, api) => ({
        type: "polygon",
        shape: {
          points: sure.map((point) => api.coord([point.load, point.high]))
            .concat(sure.slice().reverse().map((point) => api.coord([point.load, point.low]))),
        },
        style: { fill: fill, opacity: 0.2 },
      }),
    };
  }

  function whiskers(points, stroke) {
    return {
      type: "custom",
      silent: true,
      clip: true,
      z: 2,
      data: points.filter((point) => point.low !== null).map((point) => [point.load, point.low, point.high]),
      encode: { x: 0, y: [1, 2] },
      renderItem: (params, api) => {
        const low = api.coord([api.value(0), api.value(1)]);
        const high = api.coord([api.value(0), api.value(2)]);
        return { type: "line", shape: { x1: low[0], y1: low[1], x2: high[0], y2: high[1] }, style: { stroke: stroke, lineWidth: 1.5 } };
      },
    };
  }

  function line(name, points, stroke) {
    return {
      name: name,
      type: "line",
      z: 3,
      symbol: "circle",
      symbolSize: 8,
      lineStyle: { color: stroke, width: 2 },
      itemStyle: { color: stroke },
      data: points.filter((point) => point.valid).map((point) => [point.load, point.value]),
    };
  }

  function dashed(name, points, stroke) {
    return {
      name: name,
      type: "line",
      z: 3,
      symbol: "circle",
      symbolSize: 4,
      lineStyle: { color: stroke, width: 1.25, type: "dashed" },
      itemStyle: { color: stroke },
      data: points.filter((point) => point.valid).map((point) => [point.load, point.value]),
    };
  }

  function hollow(name, points, size, stroke) {
    return {
      name: name,
      type: "scatter",
      z: 4,
      symbol: "circle",
      symbolSize: size,
      itemStyle: { color: colour("--ground"), borderColor: stroke, borderWidth: 2 },
      data: points.filter((point) => !point.valid).map((point) => [point.load, point.value]),
    };
  }

  function option(chart) {
    const text = colour("--text"), quiet = colour("--quiet"), rule = colour("--line");
    const axis = {
      axisLabel: { color: quiet }, axisLine: { lineStyle: { color: rule } }, splitLine: { lineStyle: { color: rule } },
      nameTextStyle: { color: quiet },
    };
    const series = [];
    // The same loads in every chart, also where a chart lacks a step's value; one load alone leaves the axis free.
    const ends = data.loads.length > 1 ? [data.loads[0], data.loads[data.loads.length - 1]] : [undefined, undefined];
    chart.series.forEach((one, position) => {
      const stroke = colour("--series" + (position % 6));
      series.push(band(one.points, stroke), whiskers(one.points, stroke), line(one.name, one.points, stroke), hollow(one.name, one.points, 9, stroke));
      if (one.dashed.length > 0) series.push(dashed(one.name, one.dashed, stroke), hollow(one.name, one.dashed, 6, stroke));
    });
    return {
      animation: false,
      backgroundColor: "transparent",
      textStyle: { fontFamily: "system-ui, sans-serif" },
      title: { text: chart.title, left: 0, top: 0, textStyle: { color: text, fontSize: 15, fontWeight: 600 } },
      legend: { top: 26, left: 0, textStyle: { color: text }, data: chart.series.map((one) => one.name), icon: "circle" },
      grid: { left: 8, right: 24, top: 62, bottom: 28, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
      tooltip: { trigger: "item", renderMode: "richText", confine: true },
      xAxis: Object.assign({ type: "log", logBase: 2, min: ends[0], max: ends[1], name: data.x, nameLocation: "middle", nameGap: 26 }, axis),
      yAxis: Object.assign({ type: "value", min: 0 }, axis),
      color: chart.series.map((one, position) => colour("--series" + (position % 6))),
      series: series,
    };
  }

  const drawn = data.charts.map((chart) => {
    const instance = echarts.init(document.getElementById("chart-" + chart.id), null, { renderer: "svg" });
    instance.setOption(option(chart));
    return { chart: chart, instance: instance };
  });
  window.addEventListener("resize", () => drawn.forEach((one) => one.instance.resize()));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    drawn.forEach((one) => one.instance.setOption(option(one.chart), true));
  });
})();
